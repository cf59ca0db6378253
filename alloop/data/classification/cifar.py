"""CIFAR-10 and CIFAR-100 in both of their forms: binary files, and Python files, which are read without running them.

An image is 3072 bytes: 32 x 32 of red, row by row, then of green, then of blue. In binary files its class stands before
it: one byte in CIFAR-10; in CIFAR-100 the coarse class, then the fine one. Source: A. Krizhevsky, "Learning Multiple
Layers of Features from Tiny Images", 2009.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64, UInt8

from alloop.data.classification.classified import ClassifiedImages
from alloop.data.classification.plain_pickle import load_plain
from alloop.errors import DataError

SIDE = 32
_BYTES = 3 * SIDE * SIDE
Part = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class _Layout:
    """The files of one of the two sets, as they are called after unpacking.

    Attributes:
        title: the name of the set.
        files: of each part, without the suffix `.bin` of the binary form.
        meta: the Python file with the class names, the key of them there, and the text file of the binary form.
        labels: the key of the labels in a Python file.
        before: bytes before an image in a binary file; the last of them is its class.
    """

    title: str
    files: Mapping[Part, Sequence[str]]
    meta: tuple[str, str, str]
    labels: str
    before: int


_LAYOUTS = (
    _Layout(
        "CIFAR-10",
        {"train": [f"data_batch_{k}" for k in range(1, 6)], "test": ["test_batch"]},
        ("batches.meta", "label_names", "batches.meta.txt"),
        "labels",
        1,
    ),
    _Layout(
        "CIFAR-100",
        {"train": ["train"], "test": ["test"]},
        ("meta", "fine_label_names", "fine_label_names.txt"),
        "fine_labels",
        2,
    ),
)


def read_cifar(folder: Path, part: Part) -> ClassifiedImages:
    """Read one part of CIFAR-10 or CIFAR-100.

    Args:
        folder: the unpacked archive, for example `cifar-10-batches-py` or `cifar-100-binary`.
        part: `train` or `test`.

    Raises:
        DataError: no such files, a file of a wrong size, a class that has no name.
    """
    layout, is_binary = _layout(folder)
    paths = [folder / f"{name}{'.bin' if is_binary else ''}" for name in layout.files[part]]
    batches = [(_binary if is_binary else _python)(path, layout) for path in paths]
    pixels = np.concatenate([own for own, _ in batches])
    labels = np.concatenate([own for _, own in batches])
    names = _class_names(folder, layout, is_binary=is_binary)
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        msg = f"{folder}: image {wrong[0]} of {part} has class {labels[wrong[0]]}, and {len(names)} classes have names"
        raise DataError(msg)
    return ClassifiedImages(tuple(f"{part}/{row}" for row in range(len(labels))), labels, names, pixels)


def _layout(folder: Path) -> tuple[_Layout, bool]:
    """Return which set lies in a folder, and whether in binary files."""
    for layout in _LAYOUTS:
        for is_binary in (False, True):
            if (folder / (layout.meta[2] if is_binary else layout.meta[0])).is_file():
                return layout, is_binary
    known = ", ".join(name for layout in _LAYOUTS for name in (layout.meta[0], layout.meta[2]))
    msg = f"{folder}: expected CIFAR-10 or CIFAR-100, unpacked, with one of the files {known}; none is there"
    raise DataError(msg)


def _stored(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); unpack the archive again"
        raise DataError(msg) from error


def _binary(path: Path, layout: _Layout) -> tuple[UInt8[np.ndarray, "n h w 3"], Int64[np.ndarray, " n"]]:
    data, row = _stored(path), layout.before + _BYTES
    if not data or len(data) % row:
        msg = f"{path}: {len(data)} bytes are no whole number of images of {row} bytes; unpack the archive again"
        raise DataError(msg)
    rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, row)
    return _images(rows[:, layout.before :]), rows[:, layout.before - 1].astype(np.int64)


def _python(path: Path, layout: _Layout) -> tuple[UInt8[np.ndarray, "n h w 3"], Int64[np.ndarray, " n"]]:
    tree = _by_text(load_plain(_stored(path), str(path)), path)
    data, labels = tree.get("data"), tree.get(layout.labels)
    is_array = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.shape[1:] == (_BYTES,)
    if data is None or not is_array or not isinstance(labels, list) or len(labels) != len(data):
        msg = f"{path}: expected `data` with {_BYTES} bytes for each image, and as many `{layout.labels}`"
        raise DataError(msg)
    return _images(data), np.array(labels, dtype=np.int64)


def _images(rows: UInt8[np.ndarray, "n 3072"]) -> UInt8[np.ndarray, "n h w 3"]:
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _class_names(folder: Path, layout: _Layout, *, is_binary: bool) -> tuple[str, ...]:
    file, key, text = layout.meta
    if is_binary:
        return tuple(_stored(folder / text).decode("utf-8", errors="replace").split())
    names = _by_text(load_plain(_stored(folder / file), str(folder / file)), folder / file).get(key)
    if not isinstance(names, list):
        msg = f"{folder / file}: expected the class names under `{key}`"
        raise DataError(msg)
    return tuple(_text(name) for name in names)


def _by_text(tree: Any, path: Path) -> dict[str, Any]:
    """Return a dictionary whose keys are texts, whatever wrote it."""
    if not isinstance(tree, dict):
        msg = f"{path}: expected a dictionary, found {type(tree).__name__}"
        raise DataError(msg)
    return {_text(key): value for key, value in tree.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
