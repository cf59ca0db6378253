"""Values that can be computed again, kept as files by key: decoded pixels, features of frozen layers, scores.

Nothing in the folder is ever trusted: each entry holds the hash of its key and its bytes, and one that is damaged,
cut short or of another version is removed and computed again. So the folder may be deleted at any time, a kill leaves
nothing that could be taken for an entry, and any number of processes may share it.
"""

import contextlib
import hashlib
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_VERSION = b"alloop cache entry, version 1\n".ljust(32)
_HEADER = len(_VERSION) + hashlib.sha256().digest_size  # 64 bytes, so that the numbers behind it are aligned
_SUFFIX = ".tmp"  # of a file that is being written
_ABANDONED = 3600.0  # seconds after which a file that is being written belongs to a process that was killed
_RECOUNTED = 16  # times that the whole folder is measured again while one process fills it: others may fill it too


class CacheFolder:
    """A folder of entries by key, bounded in bytes. It may be used from several threads.

    A value that was not kept, because the limit is met or the disk is full, is computed again whenever it is needed.
    """

    def __init__(self, folder: Path, limit: int, report: Callable[[str], None] = warnings.warn) -> None:
        """Touch nothing yet.

        Args:
            folder: where the entries are; it is made when the first one is kept.
            limit: bytes that all entries may take.
            report: is given a sentence, once each, when the folder cannot be used and when an entry is damaged.
        """
        self.folder, self._limit, self._report = folder, limit, report
        self._lock = threading.Lock()
        self._reported: set[str] = set()
        self._is_full = False
        self._counted: int | None = None  # bytes of all entries when they were last counted
        self._written = 0  # bytes since then

    def __contains__(self, key: str) -> bool:
        """Return whether there is an entry, which may still turn out to be damaged."""
        return self._path(key).exists()

    def get(self, key: str) -> memoryview | None:
        """Return the bytes of an entry, which the caller may change; None where there is none.

        Args:
            key: a hash in hexadecimal digits.
        """
        path = self._path(key)
        try:
            data = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._report_once("read", f"{path}: cannot be read ({error.strerror}); it is computed again at each use")
            return None
        if bytes(data[:_HEADER]) == _header(key, [data[_HEADER:]]):
            return data[_HEADER:]
        self._report_once("damaged", f"{path}: damaged or of another version; such entries are computed again")
        path.unlink(missing_ok=True)
        return None

    def put(self, key: str, parts: Sequence[bytes | memoryview]) -> None:
        """Keep a value as one entry, whose bytes are those of the parts. Nothing is kept beyond the limit.

        Args:
            key: a hash in hexadecimal digits.
            parts: contiguous bytes.
        """
        size = _HEADER + sum(memoryview(part).nbytes for part in parts)
        if size > self._limit or not self._has_room(size):
            return
        path = self._path(key)
        temporary = path.with_name(f".{os.getpid()}-{threading.get_native_id()}-{time.monotonic_ns()}{_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.writelines([_header(key, parts), *parts])
            temporary.replace(path)
        except OSError as error:
            self._is_full = True
            text = f"{self.folder}: nothing more can be kept there ({error.strerror}); the rest is computed at each use"
            self._report_once("write", f"{text}, which is slower. Free some space, or give --out another disk.")
        finally:
            _remove(temporary)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key

    def _has_room(self, size: int) -> bool:
        """Count `size` bytes as written if they fit, and return whether they do."""
        with self._lock:
            if self._is_full:
                return False
            if self._counted is None or self._written > self._limit // _RECOUNTED:
                self._counted, self._written = sum(_sizes(self.folder)), 0
            if self._counted + self._written + size > self._limit and not self._make_room():
                self._is_full = True
                return False
            self._written += size
            return True

    def _make_room(self) -> bool:
        """Return whether there is room again; here there is none, so what was kept first stays."""
        return False

    def _report_once(self, kind: str, text: str) -> None:
        with self._lock:
            if kind in self._reported:
                return
            self._reported.add(kind)
        self._report(text)


class RecentFolder(CacheFolder):
    """A cache folder that removes its oldest entries when the limit is met, for values that are soon out of date."""

    def _make_room(self) -> bool:
        """Remove the oldest entries until a quarter of the limit is free."""
        entries = []
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):  # another process may have removed it
                found = path.stat()
                entries.append((found.st_mtime_ns, path, found.st_size))
        left = sum(size for _, _, size in entries)
        for _, path, size in sorted(entries):
            if left <= self._limit * 3 // 4:
                break
            _remove(path)
            left -= size
        self._counted, self._written = left, 0
        return True


def _read(path: Path) -> memoryview:
    """Return the bytes of a file in memory that may be written to."""
    with path.open("rb", buffering=0) as file:
        data = bytearray(os.fstat(file.fileno()).st_size)
        read = file.readinto(data)
    return memoryview(data)[:read]


def _header(key: str, parts: Sequence[bytes | memoryview]) -> bytes:
    """Return the version, and the hash of the key and of all parts."""
    digest = hashlib.sha256(key.encode())
    for part in parts:
        digest.update(part)
    return _VERSION + digest.digest()


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the size of each entry, and remove what killed processes left."""
    now = time.time()
    for path in folder.glob("??/*"):
        try:
            found = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        if path.name.endswith(_SUFFIX) and now - found.st_mtime > _ABANDONED:
            _remove(path)
        else:
            yield found.st_size


def _remove(path: Path) -> None:
    """Remove a file that may be gone already."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder cannot be written, which `put` has reported
