"""A pickle of plain values is read as Python reads it, and one that calls anything is refused without a call."""

import os
import pickle
import random

import numpy as np
import pytest

from alloop.data.classification.plain_pickle import load_plain
from alloop.errors import DataError

VALUES = {
    "data": np.arange(24, dtype=np.uint8).reshape(2, 12),
    "labels": [1, 2, 300, 70_000, -3, 10**20],
    b"names": [b"a", "\u00fc", ""],
    "facts": (1.5, None, True, False, ()),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "none": np.zeros((0, 3), dtype=np.float32),
    "big-endian": np.arange(6, dtype=">i4").reshape(2, 3),
    "nested": {"a": {"b": [(1,), [2]]}},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_read_as_python_reads_them(protocol):
    read = load_plain(pickle.dumps(VALUES, protocol), "a file")
    assert list(read) == list(VALUES)
    for key, value in VALUES.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(read[key], value, strict=True)
        else:
            assert read[key] == value


def test_the_texts_of_python_2_are_read_byte_by_byte():
    # protocol 2 of Python 2: a dictionary with one text of two bytes
    assert load_plain(b"\x80\x02}q\x00U\x04dataq\x01U\x02\xff\x00q\x02s.", "a file") == {"data": "\xff\x00"}


class Calling:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("calling", [Calling(os.mkdir, "made"), Calling(eval, "open('made', 'w')")])
def test_a_pickle_that_calls_something_is_refused_and_calls_nothing(protocol, calling, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="a file: expected plain values and arrays in a pickle"):
        load_plain(pickle.dumps({"data": calling}, protocol), "a file")
    assert not (tmp_path / "made").exists()


def test_arrays_of_objects_are_refused():
    with pytest.raises(DataError, match="no numbers"):
        load_plain(pickle.dumps(np.array([{}, None], dtype=object), 2), "a file")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of pickletools
def test_damaged_bytes_are_a_clear_error_or_another_plain_value():
    data, random_ = pickle.dumps(VALUES, 2), random.Random(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(random_.randint(1, 4)):
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        try:
            load_plain(bytes(damaged[: random_.choice([len(damaged), random_.randrange(len(damaged))])]), "a file")
        except DataError:
            refused += 1
    assert refused > 100


def test_what_occurs_often_is_made_once():
    nested = []
    for _ in range(60):
        nested = [nested, nested]
    read = load_plain(pickle.dumps(nested, 2), "a file")
    assert read[0] is read[1]
