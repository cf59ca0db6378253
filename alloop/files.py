"""The only place that writes files of a run: temporary name, fsync, rename, fsync of the folder."""

import difflib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from alloop.errors import ConfigError, DamagedFileError, RunInUseError


def sha256_of(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def refuse_missing(path: Path, key: str = "") -> None:
    """Refuse a file or folder that a user named and that is not there.

    Args:
        path: what was named.
        key: the key of the config that names it; empty for an argument of a command.

    Raises:
        ConfigError: of its path, the first part that is missing is named with the most similar name beside it.
    """
    missing = next((part for part in (*reversed(path.parents), path) if not os.path.exists(part)), None)  # noqa: PTH110  a name that is too long is no error
    if missing is None:
        return
    beside = sorted(entry.name for entry in missing.parent.iterdir()) if missing.parent.is_dir() else []
    close = difflib.get_close_matches(missing.name, beside, n=1, cutoff=0.5)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    where = f"{key}: " if key else ""
    raise ConfigError(f"{where}there is no {path}: {missing.name} is not in {missing.parent}{meant}")


def atomic_write(path: Path, data: bytes | Iterable[bytes]) -> str:
    """Write a whole file, or its parts one after the other, or nothing; durably. Returns the sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as handle:
            for part in (data,) if isinstance(data, bytes) else data:
                digest.update(part)
                handle.write(part)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return digest.hexdigest()


def atomic_copy(source: Path, path: Path, data: bytes) -> str:
    """Write a whole file that is the same as another, durably: as a hard link to it where the file system has them.

    Returns the sha256. No file of a run is ever changed in place, so both may share their bytes.

    Args:
        source: the other file.
        path: the file to write.
        data: what both hold.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # another file system, or one without hard links
        return atomic_write(path, data)
    temporary.replace(path)
    _sync_folder(path.parent)
    return sha256_of(data)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path` that becomes `path` at the end; after an error nothing is left of it.

    Args:
        path: a folder that does not exist, or is empty.
    """
    with _folder_beside(path) as temporary:
        yield temporary
        temporary.replace(path)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a path of the same name, for a file or folder, that becomes `path` at the end; after an error it is gone.

    Args:
        path: a file or folder that does not exist.
    """
    with _folder_beside(path) as temporary:
        yield temporary / path.name
        (temporary / path.name).replace(path)


@contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`, which is removed at the end; so are those that killed processes left."""
    new_parents = [parent for parent in path.parents if not parent.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed process that had the same number
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # a parent that is not empty stays
            for parent in new_parents:
                parent.rmdir()


def _remove_leftovers(path: Path) -> None:
    for left in path.parent.iterdir():
        process = left.name.removeprefix(f".{path.name}.").removesuffix(".tmp")
        if left.name == f".{path.name}.{process}.tmp" and process.isdecimal() and _has_ended(int(process)):
            shutil.rmtree(left, ignore_errors=True)


def _has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


def read_verified(path: Path, sha256: str) -> bytes:
    """Read a file that was recorded with a hash; raise DamagedFileError when it differs."""
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path}: recorded in run.db but cannot be read ({error.strerror}). Restore it, or start a new run."
        raise DamagedFileError(msg) from error
    if sha256_of(data) != sha256:
        msg = (
            f"{path}: expected sha256 {sha256[:16]}…, found {sha256_of(data)[:16]}…: the file was changed or "
            "damaged after it was recorded. Restore it from a copy, or start a new run in another folder."
        )
        raise DamagedFileError(msg)
    return data


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run for one process; the lock vanishes with the process.

    Raises:
        RunInUseError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        msg = f"{folder}: another process is working on this run. Wait until it ends, or stop it."
        raise RunInUseError(msg) from error
    try:
        yield
    finally:
        lock.release()
