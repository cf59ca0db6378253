"""Reads the images of a run's pool and test split, as the ledger records them."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from alloop.config.blocks import DataConfig
from alloop.data.classification.splits import load_classified_splits
from alloop.data.digits import digit_pixels, digit_scenes_parameters
from alloop.data.image_folder import ImageFolder
from alloop.data.images import decode
from alloop.errors import DamagedFileError, DataError
from alloop.ledger.image_audit import data_of, image_folders
from alloop.ledger.split_images import HashedImage
from alloop.results.runs import Run

Read = Callable[[HashedImage], UInt8[np.ndarray, "h w 3"]]
"""Returns the pixels of an image, given as the ledger records it."""


def image_reader(run: Run, split: Literal["train", "test"] = "train") -> Read:
    """Return what reads an image of the pool or of the test split, also where the data were moved with the run.

    Annotations are not read: the ledger has the name and the hash of each file, and the boxes that were paid for.

    Raises:
        DataError: the config of the run names no such data.
    """
    data = data_of(run.facts, run.folder)
    if data is None:
        msg = "the config of the run names no data"
        raise DataError(msg)
    if data.digit_scenes is not None:
        parameters = digit_scenes_parameters(data.digit_scenes, "data.digit_scenes.")
        return lambda image: digit_pixels(parameters, "pool" if split == "train" else "test", image[0])
    root = image_folders(data).get(split)
    if root is None:
        return _read_stored_together(data, split)
    folder = ImageFolder(root)

    def read(image: HashedImage) -> UInt8[np.ndarray, "h w 3"]:
        return decode(folder.verified(*image), f"{folder.root / image[1]} (image {image[0]})")

    return read


def _read_stored_together(data: DataConfig, split: Literal["train", "test"]) -> Read:
    """Return what reads images that have no files of their own: those of CIFAR, of IDX files, and embedded digits."""
    splits = load_classified_splits(data)
    source = (splits.train if split == "train" else splits.test).images

    def read(image: HashedImage) -> UInt8[np.ndarray, "h w 3"]:
        image_id, name, sha256 = image
        if image_id not in source.records or source.sha256(image_id) != sha256:
            msg = f"image {image_id} ({name}) is not the one that the run began with"
            raise DamagedFileError(msg)
        return source.read(image_id)

    return read
