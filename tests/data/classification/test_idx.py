"""IDX files: whole, compressed and damaged."""

import gzip
import struct

import numpy as np
import pytest

from alloop.data.classification.idx import read_idx_set
from alloop.errors import DataError


def idx(array):
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write(folder, prefix="train", suffix="", count=4):
    random = np.random.default_rng(count)
    images, labels = random.integers(0, 256, (count, 5, 6), dtype=np.uint8), random.integers(0, 10, count, np.uint8)
    pack = gzip.compress if suffix else bytes
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(idx(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx(labels)))
    return images, labels


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("part", "prefix"), [("train", "train"), ("test", "t10k")])
def test_images_become_rgb_and_labels_classes(part, prefix, suffix, tmp_path):
    images, labels = write(tmp_path, prefix, suffix)
    read = read_idx_set(tmp_path, part)
    assert read.pixels.shape == (4, 5, 6, 3)
    for channel in range(3):
        np.testing.assert_array_equal(read.pixels[..., channel], images)
    np.testing.assert_array_equal(read.labels, labels)
    assert read.class_names == tuple(str(k) for k in range(labels.max() + 1))
    assert read.names[0] == f"{part}/0"


def test_damaged_files_are_clear_errors(tmp_path):
    with pytest.raises(DataError, match="train-images-idx3-ubyte is not there"):
        read_idx_set(tmp_path, "train")
    write(tmp_path)
    whole = (tmp_path / "train-images-idx3-ubyte").read_bytes()
    for damaged in (whole[:-1], whole + b"x", whole[:10], b"", b"\0\0\x0d\x03" + whole[4:]):
        (tmp_path / "train-images-idx3-ubyte").write_bytes(damaged)
        with pytest.raises(DataError, match="train-images-idx3-ubyte: expected an IDX file of bytes"):
            read_idx_set(tmp_path, "train")
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((3, 5, 6), np.uint8)))
    with pytest.raises(DataError, match="expected as many labels as images"):
        read_idx_set(tmp_path, "train")
