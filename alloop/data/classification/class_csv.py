"""A CSV file with the columns `file_name` and `label`, and a folder of images."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alloop.data.classification.classified import UNLABELED, ClassifiedImages
from alloop.errors import DataError, nearest

COLUMNS = ("file_name", "label")


def read_class_csv(path: Path, folder: Path, class_names: Sequence[str] = ()) -> ClassifiedImages:
    """Read images and their classes; an empty label is that of an image that nobody has labeled.

    Args:
        path: the CSV file; other columns are left out.
        folder: where the images are.
        class_names: in label order; empty for the labels of the file, sorted.

    Raises:
        DataError: it cannot be read, lacks a column, names an image twice, or has a label that is none of the classes.
    """
    rows = _rows(path)
    names = [row["file_name"] for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for row, name in enumerate(names) if name in names[:row])
        msg = f"{path}: {twice!r} stands there twice; an image has one label"
        raise DataError(msg)
    classes = tuple(class_names) or tuple(sorted({row["label"] for row in rows} - {""}))
    labels = {name: label for label, name in enumerate(classes)} | {"": UNLABELED}
    for line, row in enumerate(rows, start=2):
        if row["label"] not in labels:
            msg = f"{path}: line {line}: {row['label']!r} is none of the classes{nearest(row['label'], classes)}"
            raise DataError(msg)
    return ClassifiedImages(
        tuple(names), np.array([labels[row["label"]] for row in rows], dtype=np.int64), classes, folder=folder
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """Return the two columns of each line."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            rows = [{name: (row[name] or "").strip() for name in COLUMNS} for row in reader] if not missing else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: expected a CSV file in UTF-8, but it cannot be read ({error})"
        raise DataError(msg) from error
    if missing:
        msg = f"{path}: expected the columns file_name and label in its first line; {missing[0]} is not there"
        raise DataError(msg)
    return rows
