"""Fingerprints: one reading of each file, the same whatever the number of threads; what fails is said, not raised."""

import hashlib

import numpy as np
import pytest

from alloop.data.fingerprints import Fingerprint, fingerprint, hashes_of
from alloop.data.images import FolderImages, MemoryImages
from alloop.data.kept_fingerprints import fingerprints
from alloop.data.perceptual_hash import hash_of_pixels
from alloop.values import ImageRecord
from tests.support.photographs import data_set, photograph


def folder_images(folder, names):
    return FolderImages(folder, {row: ImageRecord(row, name, 160, 120) for row, name in enumerate(names, start=1)})


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_fingerprints_do_not_depend_on_the_number_of_threads(tmp_path, workers):
    pictures = {f"{row}.png": photograph(row) for row in range(30)}
    data_set(tmp_path, pictures)
    source = folder_images(tmp_path, pictures)
    found = fingerprints(source, [*range(30, 0, -1)], "x", workers=workers)
    assert list(found) == [*range(30, 0, -1)]
    for row, name in enumerate(pictures, start=1):
        sha256 = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert found[row] == Fingerprint(sha256, hash_of_pixels(np.asarray(pictures[name])))


def test_what_cannot_be_read_is_said_with_file_and_id(tmp_path):
    data_set(tmp_path, {"a.png": photograph(1), "b.png": b"damaged"})
    found = fingerprints(folder_images(tmp_path, ["a.png", "b.png", "c.png"]), [1, 2, 3], "x")
    assert found[2].sha256 == hashlib.sha256(b"damaged").hexdigest()
    assert found[2].perceptual is None
    assert "b.png (image 2): not an image" in found[2].problem
    assert found[3].sha256 is None
    assert "c.png: image 3 cannot be read" in found[3].problem
    image_ids, hashes = hashes_of(found)
    assert (image_ids, hashes.tolist()) == ([1], [found[1].perceptual])


def test_images_in_memory_have_fingerprints_too():
    pixels = np.asarray(photograph(4))
    source = MemoryImages({9: pixels}, {9: ImageRecord(9, "x", 160, 120)})
    assert fingerprint(source, 9) == Fingerprint(source.sha256(9), hash_of_pixels(pixels))
