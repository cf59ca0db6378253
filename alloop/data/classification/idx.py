"""The files of MNIST and its relatives (Fashion-MNIST, KMNIST, EMNIST), as torchvision leaves them on disk.

An IDX file begins with two zero bytes, the type of its numbers (8 for uint8), its number of dimensions, and their
lengths as big-endian int32; then come the numbers. Source: Y. LeCun, C. Cortes, C. Burges, the MNIST database.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from alloop.data.classification.classified import ClassifiedImages
from alloop.errors import DataError

_UINT8 = 8
_LARGEST = 2**31  # bytes that a file may unpack to
_PREFIX = {"train": "train", "test": "t10k"}


def read_idx_set(folder: Path, part: Literal["train", "test"], class_names: Sequence[str] = ()) -> ClassifiedImages:
    """Read one part of a set in IDX files, gray images becoming RGB.

    Args:
        folder: with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and so on, or the same with `.gz`.
        part: `train`, or `test`, whose files begin with `t10k`.
        class_names: in label order; empty for the labels from 0 to the largest one.

    Raises:
        DataError: a file that is not there or damaged, other numbers of labels and images, a class without a name.
    """
    images, labels = (
        _array(_found(folder, f"{_PREFIX[part]}-{kind}-ubyte")) for kind in ("images-idx3", "labels-idx1")
    )
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        msg = f"{folder}: expected as many labels as images in {part}, found {labels.shape} and {images.shape}"
        raise DataError(msg)
    names = tuple(f"{part}/{row}" for row in range(len(labels)))
    classes = tuple(str(label) for label in range(int(labels.max(initial=0)) + 1))
    if class_names and len(class_names) < len(classes):
        msg = f"{folder}: {part} has class {classes[-1]}, and {len(class_names)} classes have names"
        raise DataError(msg)
    classes = tuple(class_names) or classes
    return ClassifiedImages(names, labels.astype(np.int64), classes, np.repeat(images[..., None], 3, axis=3))


def _found(folder: Path, name: str) -> Path:
    """Return a file, which may be compressed or named with a dot as in older archives."""
    spellings = [name, name.replace("-idx", ".idx")]
    for path in (folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz")):
        if path.is_file():
            return path
    msg = f"{folder}: {name} is not there, neither as it is nor with .gz"
    raise DataError(msg)


def _array(path: Path) -> UInt8[np.ndarray, "..."]:
    """Return the numbers of one file."""
    try:
        data = _unpacked(path)
        dimensions = data[3] if data[:3] == bytes([0, 0, _UINT8]) else 0
        shape = np.frombuffer(data, dtype=">i4", count=dimensions, offset=4).tolist()
        numbers = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions)
        if not dimensions or len(numbers) != np.prod(shape, dtype=object):
            raise ValueError("its size does not fit its header")
        return numbers.reshape(shape)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        msg = f"{path}: expected an IDX file of bytes, but it cannot be read as such ({error})"
        raise DataError(msg) from error


def _unpacked(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    with gzip.open(path) as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"it unpacks to more than {_LARGEST} bytes")
    return data
