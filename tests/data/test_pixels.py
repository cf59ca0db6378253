"""Pixels of a file are kept where there is room for them, and the same come out where there is not."""

import errno
import io
import multiprocessing
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alloop.data import pixels as pixels_module
from alloop.data.cache_folder import CacheFolder
from alloop.data.images import FolderImages, MemoryImages
from alloop.data.pixels import PixelCache, resized, scaled_size
from alloop.errors import DamagedFileError, DataError
from alloop.files import sha256_of
from alloop.values import ImageRecord

COUNT = 6


class Counting(FolderImages):
    """Images of a folder that count how often each is decoded."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.decoded = []

    def decode_at(self, image_id, *arguments, **options):
        self.decoded.append(image_id)
        return super().decode_at(image_id, *arguments, **options)


@pytest.fixture
def source(tmp_path):
    chance, root = np.random.default_rng(0), tmp_path / "images"
    root.mkdir()
    records = {}
    for image_id in range(COUNT):
        width, height = (40, 30) if image_id % 2 else (30, 40)
        Image.fromarray(chance.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"{image_id}.png")
        records[image_id] = ImageRecord(image_id, f"{image_id}.png", width, height)
    source = Counting(root, records)
    source.expected = {i: source.sha256(i) for i in records}
    return source


def expected(source, image_id, short_side=10):
    record = source.records[image_id]
    return resized(source.read(image_id), *scaled_size(record.width, record.height, short_side, 60))


def cache_of(source, folder, limit=10**6, said=None, **options):
    kept = None if folder is None else CacheFolder(folder, limit, [].append if said is None else said.append)
    return PixelCache(source, 10, 60, kept, **options)


def assert_same(cache, source):
    for image_id in (0, 3, 0, *range(COUNT)):
        np.testing.assert_array_equal(cache.read(image_id), expected(source, image_id))


def test_each_file_is_decoded_once_and_never_again_by_another_process(source, tmp_path):
    for _ in range(2):
        assert_same(cache_of(source, tmp_path / "cache"), source)
    assert sorted(source.decoded) == list(range(COUNT))
    cache = cache_of(source, None)
    assert_same(cache, source)
    assert len(source.decoded) == 2 * COUNT + 3


def test_pixels_in_memory_are_not_written_to_disk(tmp_path):
    images = {0: np.arange(40 * 30 * 3, dtype=np.uint16).astype(np.uint8).reshape(30, 40, 3)}
    source = MemoryImages(images, {0: ImageRecord(0, "", 40, 30)})
    cache = cache_of(source, tmp_path / "cache")
    np.testing.assert_array_equal(cache.read(0), resized(images[0], 13, 10))
    assert not (tmp_path / "cache").exists()


def test_scaling_keeps_the_long_side_below_its_limit():
    assert scaled_size(20, 10, 100, 120) == (120, 60)
    assert scaled_size(20, 10, 30, 120) == (60, 30)


@pytest.mark.parametrize("room", [0, 1, 4])
def test_what_does_not_fit_is_decoded_at_each_read(source, tmp_path, room):
    cache = cache_of(source, tmp_path / "cache", limit=room * (64 + 10 * 13 * 3))
    assert_same(cache, source)
    source.decoded.clear()
    assert_same(cache, source)
    kept = [0, 3, 1, 2, 4, 5][:room]  # those that were read first
    assert set(source.decoded) == set(range(COUNT)) - set(kept)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_full_disk_costs_time_and_one_sentence(source, tmp_path, monkeypatch, code):
    left, real = [3], Path.open

    def full(path, mode="r", *arguments, **options):
        if "w" in mode:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(code, os.strerror(code))
        return real(path, mode, *arguments, **options)

    said = []
    cache = cache_of(source, tmp_path / "cache", said=said)
    monkeypatch.setattr(Path, "open", full)
    for _ in range(2):
        assert_same(cache, source)
    (text,) = said
    assert str(tmp_path / "cache") in text
    assert os.strerror(code) in text


@pytest.mark.parametrize("harm", ["cut", "garbage", "empty", "other", "folder gone"])
def test_a_damaged_entry_is_decoded_again(source, tmp_path, harm):
    folder = tmp_path / "cache"
    cache = cache_of(source, folder)
    assert_same(cache, source)
    paths = sorted(folder.glob("??/*"))
    for path in paths:
        data = path.read_bytes()
        path.write_bytes({"cut": data[:100], "garbage": data[:70] + b"!" + data[71:], "empty": b""}.get(harm, data))
    if harm == "other":
        for path, other in zip(paths, paths[1:] + paths[:1], strict=True):
            other.with_name("swapped").write_bytes(path.read_bytes())
        for path in paths:
            path.with_name("swapped").replace(path)
    if harm == "folder gone":
        shutil.rmtree(folder)
    assert_same(cache, source)


def test_what_determines_the_pixels_is_in_the_key(source, tmp_path, monkeypatch):
    cache = cache_of(source, tmp_path)
    keys = {cache.key(0), cache.key(1), cache_of(source, tmp_path, reduced=False).key(0)}
    keys.add(PixelCache(source, 11, 60).key(0))
    keys.add(PixelCache(source, 10, 12).key(0))
    monkeypatch.setattr(pixels_module, "DECODER", "another version")
    keys.add(cache.key(0))
    record = source.records[0]
    source.records[0] = ImageRecord(0, record.file_name, record.width + 1, record.height)
    keys.add(cache.key(0))
    source.records[0] = record
    source.expected = {**source.expected, 0: sha256_of(b"another file")}
    keys.add(cache.key(0))
    assert len(keys) == 8


def test_a_changed_file_is_refused_also_where_its_pixels_are_kept(source, tmp_path):
    assert_same(cache_of(source, tmp_path / "cache"), source)
    path = source.root / "2.png"
    path.write_bytes(path.read_bytes() + b"\0")
    resumed = cache_of(source, tmp_path / "cache")
    with pytest.raises(DamagedFileError, match="image 2 changed"):
        resumed.read(2)
    path.unlink()
    with pytest.raises(DamagedFileError, match="image 2 was there"):
        cache_of(source, tmp_path / "cache").read(2)


def test_a_file_of_another_size_than_declared_is_refused_also_where_its_pixels_are_kept(source, tmp_path):
    cache = cache_of(source, tmp_path / "cache")
    cache.read(0)
    source.records[0] = ImageRecord(0, "0.png", 31, 40)
    with pytest.raises(DataError, match="declared 31 x 40, but shows 30 x 40"):
        cache.read(0)


def test_a_file_whose_hash_was_never_recorded_is_kept_under_its_hash_of_now(source, tmp_path):
    source.expected = {}
    cache = cache_of(source, tmp_path / "cache")
    assert_same(cache, source)
    buffer = io.BytesIO()
    Image.new("RGB", (30, 40), (1, 2, 3)).save(buffer, "PNG")
    (source.root / "0.png").write_bytes(buffer.getvalue())
    assert cache.read(0)[0, 0].tolist() == [1, 2, 3]


def _read_all(root, records, hashes, folder, killed):
    source = FolderImages(root, records)
    source.expected = hashes
    cache = PixelCache(source, 10, 60, CacheFolder(folder, 10**6))
    for image_id in records:
        cache.read(image_id)
        if image_id == killed:
            os.kill(os.getpid(), signal.SIGKILL)


def test_processes_may_share_the_folder_and_be_killed(source, tmp_path):
    spawn, folder = multiprocessing.get_context("spawn"), tmp_path / "cache"
    processes = [
        spawn.Process(target=_read_all, args=(source.root, source.records, source.expected, folder, killed))
        for killed in (3, None)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, 0]
    assert_same(cache_of(source, folder), source)
    assert source.decoded == []


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_reading_ahead_changes_no_pixel(source, tmp_path, threads):
    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        cache = cache_of(source, folder, threads=threads)
        for first in range(COUNT):
            following = [(i, cache.size(i)) for i in range(first, COUNT)]
            cache.expect("a", lambda _, following=following: following, 2)
            np.testing.assert_array_equal(cache.read(first), expected(source, first))
            smaller = cache.read(first, (5, 4))
            np.testing.assert_array_equal(smaller, resized(expected(source, first), 5, 4))


def test_a_damaged_image_ends_in_its_own_error_when_it_is_needed(source, tmp_path):
    (source.root / "2.png").write_bytes(b"changed")
    cache = cache_of(source, tmp_path / "cache", threads=2)
    cache.expect("a", lambda _: [(i, cache.size(i)) for i in range(COUNT)], 2)
    for image_id in (0, 1, 3, 4):
        np.testing.assert_array_equal(cache.read(image_id), expected(source, image_id))
    with pytest.raises(DamagedFileError, match="image 2 changed"):
        cache.read(2)


def test_pixels_in_memory_are_not_read_ahead():
    source = MemoryImages({0: np.zeros((30, 40, 3), np.uint8)}, {0: ImageRecord(0, "", 40, 30)})
    asked = []
    PixelCache(source, 10, 60, threads=4).expect("a", lambda ahead: asked.append(ahead) or [], 2)
    assert asked == []
