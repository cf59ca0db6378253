"""The file of test detections: the same bytes always, read back whole, plain arrays, and garbage is named."""

import dataclasses
import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import DamagedFileError
from alloop.evaluation.detections_file import detections_from_bytes, detections_to_bytes
from alloop.evaluation.matching import matched_detections
from tests.support.resamples import random_data


def example(seed, images=4, groups=("a", "b ü", "a", "\udcff/c")):
    truth, found = random_data(np.random.default_rng(seed), images, (0.25, 0.5, 0.75))
    names = dict(zip(sorted(truth), groups, strict=True)) if groups else {}
    return matched_detections(truth, found, ["cat", "dog", "ü"], names, 3)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), groups=st.sampled_from([("a", "b ü", "a", "\udcff/c"), ()]))
def test_what_is_written_is_read_back(seed, groups):
    kept = example(seed, groups=groups)
    again = detections_from_bytes(detections_to_bytes(kept), Path("d.npz"))
    for field in dataclasses.fields(kept):
        before, after = getattr(kept, field.name), getattr(again, field.name)
        assert np.array_equal(before, after), field.name
        assert getattr(before, "dtype", None) == getattr(after, "dtype", None)


def test_the_bytes_do_not_depend_on_the_time(monkeypatch):
    before = detections_to_bytes(example(0))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(2e9))
    assert detections_to_bytes(example(0)) == before
    assert detections_to_bytes(example(1)) != before


def test_numpy_reads_the_arrays_without_pickle():
    kept = example(0)
    with np.load(io.BytesIO(detections_to_bytes(kept)), allow_pickle=False) as arrays:
        assert arrays["groups"][arrays["image_groups"]].tolist() == list(kept.groups)
        for t in range(10):
            assert np.array_equal(arrays["matched"] >> t & 1, kept.matched[t])
            assert np.array_equal(arrays["ignored"] >> t & 1, kept.ignored[t])


def test_garbage_is_named():
    data = detections_to_bytes(example(0))
    for garbage in (b"", b"no zip", data[: len(data) // 2], data.replace(b"scores.npy", b"others.npy")):
        with pytest.raises(DamagedFileError, match=r"d\.npz: cannot be read as test detections"):
            detections_from_bytes(garbage, Path("d.npz"))
