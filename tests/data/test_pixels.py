"""Pixels are decoded once where there is space for them, and the same come out where there is not."""

import errno
import itertools
import os

import numpy as np
import pytest

from alloop.config import parse_config
from alloop.data import pixels
from alloop.data.pixels import PixelCache, Scratch
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.values import ImageRecord
from strategies import TABLE
from tests.support import small_tree


class CountingSource:
    def __init__(self, count):
        self.records = {i: ImageRecord(i, "", 20, 10) for i in range(count)}
        self.reads = 0

    def sha256(self, image_id):
        return ""

    def read(self, image_id):
        self.reads += 1
        return np.full((10, 20, 3), image_id, dtype=np.uint8)


def test_the_second_epoch_decodes_nothing_and_space_is_bounded():
    source = CountingSource(10)
    cache = PixelCache(source, range(10), 10, 20, limit=10 * 600)
    for _ in range(3):
        assert [int(cache.read(i)[0, 0, 0]) for i in range(10)] == list(range(10))
    assert source.reads == 10
    small = PixelCache(source, range(10), 10, 20, limit=4 * 600)
    source.reads = 0
    for _ in range(2):
        assert [int(small.read(i)[0, 0, 0]) for i in range(10)] == list(range(10))
    assert source.reads == 4 + 2 * 6


def test_scaling_keeps_the_long_side_below_its_limit():
    source = CountingSource(1)
    assert PixelCache(source, [0], 100, 120, 10**6).size(0) == (120, 60)
    assert PixelCache(source, [0], 30, 120, 10**6).size(0) == (60, 30)


def full_after(reservations, code=errno.ENOSPC):
    """Return a `posix_fallocate` for a disk that has room for this many images."""
    left = [reservations]
    real = os.posix_fallocate

    def reserve(file, offset, size):
        if left[0] == 0:
            raise OSError(code, os.strerror(code))
        left[0] -= 1
        real(file, offset, size)

    return reserve


@pytest.mark.parametrize("room", [0, 1, 4])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_is_or_becomes_full_costs_time_and_one_sentence(monkeypatch, room, code):
    monkeypatch.setattr(os, "posix_fallocate", full_after(room, code))
    source, reported = CountingSource(10), []
    cache = PixelCache(source, range(10), 10, 20, 10**6, reported.append)
    for _ in range(3):
        assert [int(cache.read(i)[0, 0, 0]) for i in range(10)] == list(range(10))
    assert source.reads == room + 3 * (10 - room)
    (text,) = reported
    assert f"{room} of 10 are kept" in text
    assert "TMPDIR" in text


def test_a_part_has_blocks_before_it_is_written():
    """The file itself is sparse: what was not reserved takes no space."""
    scratch = Scratch(2**22)
    blocks = [os.fstat(scratch._file).st_blocks * 512]
    for part in range(3):
        scratch.reserve(part * 2**20, 2**20)
        blocks.append(os.fstat(scratch._file).st_blocks * 512)
    assert blocks[0] < 2**20
    assert all(after - before >= 2**20 for before, after in itertools.pairwise(blocks))


@pytest.mark.parametrize("code", [None, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_where_blocks_cannot_be_reserved_zeros_are_written(monkeypatch, code):
    if code is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", full_after(0, code))
    scratch = Scratch(2**22)
    scratch.reserve(5, 2**21 + 7)
    assert os.fstat(scratch._file).st_blocks * 512 >= 2**21
    source = CountingSource(3)
    cache = PixelCache(source, range(3), 10, 20, 10**6)
    for _ in range(2):
        assert [int(cache.read(i)[9, 19, 2]) for i in range(3)] == [0, 1, 2]
    assert source.reads == 3


@pytest.mark.parametrize("kind", ["missing", "file", "read-only"])
def test_a_temporary_folder_that_cannot_be_used_is_reported(tmp_path, monkeypatch, kind):
    folder = tmp_path / "scratch"
    if kind == "file":
        folder.write_text("")
    elif kind == "read-only":
        folder.mkdir()
        monkeypatch.setattr(pixels.tempfile, "TemporaryFile", refuses_to_write)
    monkeypatch.setenv("TMPDIR", str(folder))
    source, reported = CountingSource(2), []
    cache = PixelCache(source, range(2), 10, 20, 10**6, reported.append)
    assert [int(cache.read(i)[0, 0, 0]) for i in (0, 1, 0)] == [0, 1, 0]
    assert source.reads == 3
    assert len(reported) == 1
    assert str(folder) in reported[0]


def refuses_to_write(**_):
    raise PermissionError(errno.EACCES, "Permission denied")  # root, who may run the tests, may write anywhere


def test_a_run_gives_the_same_without_scratch_space(tmp_path, monkeypatch):
    config = parse_config(small_tree(**{"loop.rounds": 2, "training.short_sides": [48, 64, 96]}))
    records = []
    for name, room in (("with", None), ("half", 20), ("without", 0)):
        with monkeypatch.context() as patch:
            if room is not None:
                patch.setattr(os, "posix_fallocate", full_after(room))
            rounds = run_experiment(config, tmp_path / name, TABLE)
        with read_ledger(tmp_path / name) as ledger:
            records.append(([r.metrics for r in rounds], ledger.charges(), ledger.files()))
    assert records[0] == records[1] == records[2]


def test_the_sentence_is_said_once_for_all_caches_of_a_run(tmp_path, monkeypatch, capsys):
    from alloop.progress import Progress

    monkeypatch.setattr(os, "posix_fallocate", full_after(0))
    config = parse_config(small_tree(**{"loop.rounds": 1, "training.short_sides": [48, 96]}))
    run_experiment(config, tmp_path / "run", TABLE, progress=Progress())
    assert capsys.readouterr().err.count("no room for decoded images") == 1
