"""A cache folder returns what was kept or nothing, whatever happens to its files."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.cache_folder import CacheFolder, RecentFolder

KEY = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()
GIB = 1 << 30


def cache(folder: Path, limit: int = GIB) -> tuple[CacheFolder, list[str]]:
    said: list[str] = []
    return CacheFolder(folder, limit, said.append), said


def entry(folder: Path, key: str = KEY) -> Path:
    return folder / key[:2] / key


@given(parts=st.lists(st.binary(max_size=200), max_size=4))
def test_an_entry_is_its_parts_joined(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    kept, said = cache(tmp_path_factory.mktemp("cache"))
    kept.put(KEY, parts)
    found = kept.get(KEY)
    assert found is not None
    assert bytes(found) == b"".join(parts)
    assert not found.readonly
    assert not said


def test_an_entry_that_was_never_kept_is_none_and_makes_no_folder(tmp_path: Path) -> None:
    kept, said = cache(tmp_path / "none")
    assert kept.get(KEY) is None
    assert not (tmp_path / "none").exists()
    assert not said


@given(data=st.data())
def test_a_changed_byte_or_a_cut_makes_an_entry_vanish(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    kept, said = cache(folder)
    kept.put(KEY, [b"the value"])
    stored = bytearray(entry(folder).read_bytes())
    row = data.draw(st.integers(0, len(stored) - 1))
    if data.draw(st.booleans()):
        stored[row] ^= data.draw(st.integers(1, 255))
    else:
        stored = stored[:row]
    entry(folder).write_bytes(stored)
    assert kept.get(KEY) is None
    assert not entry(folder).exists()
    assert len(said) == 1
    assert "damaged" in said[0]
    kept.put(KEY, [b"the value"])
    assert bytes(kept.get(KEY) or b"") == b"the value"


def test_an_entry_under_the_name_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    kept, _ = cache(tmp_path)
    kept.put(KEY, [b"the value"])
    entry(tmp_path, OTHER).parent.mkdir(exist_ok=True)
    entry(tmp_path).rename(entry(tmp_path, OTHER))
    assert kept.get(OTHER) is None


def test_nothing_is_kept_beyond_the_limit(tmp_path: Path) -> None:
    kept, said = cache(tmp_path, limit=1000)
    for number in range(20):
        kept.put(hashlib.sha256(bytes([number])).hexdigest(), [bytes(100)])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1000 // 164
    assert not said  # that is no fault


def test_a_recent_folder_forgets_what_is_oldest(tmp_path: Path) -> None:
    kept = RecentFolder(tmp_path, 1000)
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(40)]
    for number, key in enumerate(keys):
        kept.put(key, [bytes([number]) * 100])
        os.utime(entry(tmp_path, key), ns=(number, number))
        assert kept.get(key) is not None
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1000
    there = [key in kept for key in keys]
    assert there == sorted(there)
    assert 4 <= sum(there) <= 6


def test_an_entry_larger_than_the_limit_is_not_kept(tmp_path: Path) -> None:
    for cls in (CacheFolder, RecentFolder):
        kept = cls(tmp_path / cls.__name__, 100)
        kept.put(KEY, [bytes(200)])
        assert kept.get(KEY) is None


def test_the_limit_counts_what_other_processes_kept(tmp_path: Path) -> None:
    first, second = cache(tmp_path, limit=1000)[0], cache(tmp_path, limit=1000)[0]
    for number in range(20):
        (first, second)[number % 2].put(hashlib.sha256(bytes([number])).hexdigest(), [bytes(100)])
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1000 + 2 * 164


def test_a_full_disk_is_reported_once_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, said = cache(tmp_path)

    def full(self: Path, _target: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    kept.put(KEY, [b"value"])
    kept.put(OTHER, [b"value"])
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # not even a temporary one
    assert kept.get(KEY) is None


def test_a_file_where_the_folder_should_be_is_reported_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    kept, said = cache(tmp_path / "cache")
    kept.put(KEY, [b"value"])
    assert kept.get(KEY) is None
    assert said


def test_the_folder_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    kept, _ = cache(tmp_path / "cache")
    kept.put(KEY, [b"value"])
    subprocess.run(["rm", "-r", str(tmp_path / "cache")], check=True)
    assert kept.get(KEY) is None
    kept.put(KEY, [b"value"])
    assert bytes(kept.get(KEY) or b"") == b"value"


def test_what_a_killed_process_left_is_removed_after_an_hour(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    old, young = tmp_path / "ab" / ".1-1-1.tmp", tmp_path / "ab" / ".1-1-2.tmp"
    old.write_bytes(b"half")
    young.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache(tmp_path)[0].put(KEY, [b"value"])
    assert not old.exists()
    assert young.exists()


def test_threads_may_share_a_folder(tmp_path: Path) -> None:
    kept, said = cache(tmp_path)
    wrong: list[int] = []

    def work(offset: int) -> None:
        for number in range(60):
            value = bytes([(number + offset) % 30]) * 500
            key = hashlib.sha256(value).hexdigest()
            kept.put(key, [value])
            if bytes(kept.get(key) or b"") != value:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not said


WRITER = """
import hashlib, sys
from pathlib import Path
from alloop.data.cache_folder import CacheFolder
cache = CacheFolder(Path(sys.argv[1]), 1 << 30)
print("ready", flush=True)
for number in range(10**6):
    cache.put(hashlib.sha256(str(number % 50).encode()).hexdigest(), [str(number % 50).encode() * 5000])
"""


@pytest.mark.parametrize("delay", [0.01, 0.05, 0.1])
def test_a_killed_writer_leaves_whole_entries_or_none(tmp_path: Path, delay: float) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    while not any(path.suffix != ".tmp" for path in tmp_path.glob("??/*")):
        threading.Event().wait(0.005)
    threading.Event().wait(delay)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept, said = cache(tmp_path)
    found = [kept.get(hashlib.sha256(str(number).encode()).hexdigest()) for number in range(50)]
    assert any(value is not None for value in found)
    assert all(value is None or bytes(value) == str(number).encode() * 5000 for number, value in enumerate(found))
    assert not said
