"""Fingerprints that are kept are those of the files, whatever happens to the files, to the folder or to the process."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from alloop.data import kept_fingerprints
from alloop.data.cache_folder import CacheFolder
from alloop.data.fingerprints import fingerprint
from alloop.data.images import FolderImages, MemoryImages
from alloop.data.kept_fingerprints import fingerprints
from alloop.data.threads import BLOCK
from alloop.values import ImageRecord
from tests.support.photographs import data_set, photograph

COUNT = 5 * BLOCK + 3


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Images of which a few are damaged; they count as settled at once."""
    monkeypatch.setattr(kept_fingerprints, "_SETTLED", 0)
    small = photograph(0, 20, 20)
    small.save(tmp_path / "whole.png")
    cut = (tmp_path / "whole.png").read_bytes()[:500]
    pictures = {f"{row}.png": cut if row in (5, 200) else small for row in range(COUNT)}
    data_set(tmp_path / "images", pictures)
    for row in range(0, COUNT, 7):
        photograph(row, 24, 24).save(tmp_path / "images" / f"{row}.png")
    return FolderImages(tmp_path / "images", {row: ImageRecord(row, name, 20, 20) for row, name in enumerate(pictures)})


@pytest.fixture
def read(monkeypatch):
    """The images that were read."""
    images = []

    def spy(source, image_id):
        images.append(image_id)
        return fingerprint(source, image_id)

    monkeypatch.setattr(kept_fingerprints, "fingerprint", spy)
    return images


def folder(tmp_path):
    return CacheFolder(tmp_path / "cache", 1 << 30, lambda _: None)


def each(source):
    return {row: fingerprint(source, row) for row in range(COUNT)}


def hashed(source, kept, workers=2):
    return fingerprints(source, range(COUNT), "x", workers=workers, kept=kept)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_second_start_finds_everything_and_reads_only_what_cannot_be_decoded(source, tmp_path, read, workers):
    expected = each(source)
    first = hashed(source, folder(tmp_path), workers)
    assert sorted(read) == [*range(COUNT)]
    read.clear()
    again = hashed(source, folder(tmp_path), workers)
    assert expected == first == again
    assert list(again) == list(first) == [*range(COUNT)]
    assert sorted(read) == [5, 200], "to say why"
    assert "5.png (image 5): the image data is damaged or cut short" in again[5].problem


def test_without_a_folder_every_image_is_read(source, read):
    expected = each(source)
    assert fingerprints(source, range(COUNT), "x") == expected
    assert sorted(read) == [*range(COUNT)]


def test_a_file_that_changed_in_place_with_its_size_and_time_kept_is_read_again(source, tmp_path, read):
    hashed(source, folder(tmp_path))
    path = tmp_path / "images" / "70.png"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1  # the checksum of the pixels: it cannot be decoded now
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    read.clear()
    assert hashed(source, folder(tmp_path)) == each(source)
    assert set(read) == {*range(BLOCK, 2 * BLOCK), 5, 200}, "and those that are kept with it"


def test_a_file_that_is_replaced_by_another_of_the_same_times_is_read_again(source, tmp_path):
    hashed(source, folder(tmp_path))
    one, other = tmp_path / "images" / "1.png", tmp_path / "images" / "2.png"
    before = one.stat()
    other.rename(one)
    os.utime(one, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = hashed(source, folder(tmp_path))
    assert found == each(source)
    assert found[2].sha256 is None
    assert hashed(source, folder(tmp_path)) == found, "a missing file is never kept"


def test_names_that_change_places_are_not_mistaken(source, tmp_path):
    hashed(source, folder(tmp_path))
    swapped = {row: ImageRecord(row, f"{COUNT - 1 - row}.png", 20, 20) for row in range(COUNT)}
    other = FolderImages(source.root, swapped)
    assert hashed(other, folder(tmp_path)) == each(other)


def test_a_file_that_changed_a_moment_ago_is_not_kept(source, tmp_path, read, monkeypatch):
    monkeypatch.setattr(kept_fingerprints, "_SETTLED", 10**12)
    hashed(source, folder(tmp_path))
    read.clear()
    hashed(source, folder(tmp_path))
    assert len(read) == COUNT


def test_a_file_that_changes_while_it_is_hashed_is_not_kept(source, tmp_path, monkeypatch):
    def write(source, image_id):
        found = fingerprint(source, image_id)
        if image_id == 3:
            photograph(9, 24, 24).save(source.root / "3.png")
        return found

    monkeypatch.setattr(kept_fingerprints, "fingerprint", write)
    hashed(source, folder(tmp_path))
    monkeypatch.setattr(kept_fingerprints, "fingerprint", fingerprint)
    assert hashed(source, folder(tmp_path)) == each(source)


def spoil_bytes(cache):
    for path in cache.glob("??/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")


def cut(cache):
    for path in cache.glob("??/*"):
        path.write_bytes(path.read_bytes()[:50])


def remove(cache):
    subprocess.run(["rm", "-r", str(cache)], check=True)


def replace_by_a_file(cache):
    remove(cache)
    cache.write_text("somebody's own file")


def swap_entries(cache):
    first, second, *_ = sorted(cache.glob("??/*"))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


@pytest.mark.parametrize("harm", [spoil_bytes, cut, remove, replace_by_a_file, swap_entries])
def test_a_damaged_foreign_or_deleted_folder_changes_nothing(source, tmp_path, harm):
    hashed(source, folder(tmp_path))
    harm(tmp_path / "cache")
    assert hashed(source, folder(tmp_path)) == each(source)


def test_an_entry_of_another_length_is_not_taken(source, tmp_path, read):
    kept = folder(tmp_path)
    kept.put(kept_fingerprints._key(source, range(BLOCK)), [b"short"])
    assert hashed(source, kept) == each(source)
    assert len(read) == COUNT


def test_two_starts_at_once_read_every_image_once(source, tmp_path, read):
    found = []
    starts = [threading.Thread(target=lambda: found.append(hashed(source, folder(tmp_path)))) for _ in range(2)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(60)
    assert found[0] == found[1] == each(source)
    assert sorted(read) == sorted([*range(COUNT), 5, 200])


KILLED = """
import os, signal, sys
from pathlib import Path
from alloop.data import kept_fingerprints
from alloop.data.cache_folder import CacheFolder
from alloop.data.fingerprints import fingerprint
from alloop.data.images import FolderImages
from alloop.values import ImageRecord

def read(source, image_id):
    if image_id == 290:
        os.kill(os.getpid(), signal.SIGKILL)
    return fingerprint(source, image_id)

kept_fingerprints.fingerprint, kept_fingerprints._SETTLED = read, 0
folder, count = Path(sys.argv[1]), int(sys.argv[2])
source = FolderImages(folder / "images", {row: ImageRecord(row, f"{row}.png", 20, 20) for row in range(count)})
kept_fingerprints.fingerprints(source, range(count), "x", workers=1, kept=CacheFolder(folder / "cache", 1 << 30))
"""


def test_a_run_that_was_killed_while_it_hashed_hashes_the_rest(source, tmp_path, read):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(COUNT)], check=False)
    assert killed.returncode == -9
    assert hashed(source, folder(tmp_path)) == each(source)
    assert sorted(read) == sorted([5, 200, *range(290 // BLOCK * BLOCK, COUNT)])


def test_images_in_memory_are_never_kept(tmp_path):
    records = {1: ImageRecord(1, "1.png", 20, 20)}
    images = MemoryImages({1: np.asarray(photograph(1, 20, 20))}, records)
    kept = folder(tmp_path)
    assert fingerprints(images, [1], "x", kept=kept) == {1: fingerprint(images, 1)}
    assert list((tmp_path / "cache").glob("??/*")) == []
