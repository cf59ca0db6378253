"""Predictions as YOLO text files: `NAME.txt` for each image, lines `class x y width height confidence`.

Numbers are fractions of the image's sides, `x y` is the centre of the box, `class` counts from 0 in the order of the
classes. Ultralytics writes such a folder with `save_txt=True save_conf=True`. An image without a file has no detection.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.predictions.rows import Classes, KnownImages, Rows

NUMBERS = 6  # in a line


def read_yolo_txt(path: Path, images: KnownImages, classes: Classes, notes: Notes) -> Rows:
    """Read a folder of text files, searched in depth; where it has a folder `labels`, that one.

    Raises:
        DataError: no such folder, a line of another form, an unknown image or class.
    """
    folder = path / "labels" if (path / "labels").is_dir() else path
    files = sorted(folder.rglob("*.txt")) if folder.is_dir() else []
    if not files:
        msg = f"{path}: expected a folder of YOLO text files, found none"
        raise DataError(msg)
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    rows_of_files = images.rows_of_names(names, str(path), notes)
    numbers: list[Sequence[float]] = []
    image_rows: list[int] = []
    places: list[str] = []
    for file, image_row in zip(files, rows_of_files.tolist(), strict=True):
        for number, line in enumerate(_lines(file)):
            numbers.append(_parsed(line, f"{file}: line {number + 1}"))
            image_rows.append(image_row)
            places.append(f"{file}: line {number + 1}")
    table = np.array(numbers, dtype=np.float64).reshape(-1, NUMBERS)
    sizes = np.array([(image.width, image.height) for image in images.images], dtype=np.float64).reshape(-1, 2)
    sides = np.tile(sizes[image_rows], 2) if image_rows else np.zeros((0, 4))
    bbox = np.concatenate([table[:, 1:3] - table[:, 3:5] / 2, table[:, 3:5]], axis=1) * sides
    return Rows(
        place=str(path),
        image_rows=np.array(image_rows, dtype=np.int64),
        labels=classes.labels_of(
            [int(number) for number in table[:, 0]], range(len(classes.names)), str(path), "class"
        ),
        bbox=bbox,
        scores=table[:, 5],
        probabilities=None,
        where=places.__getitem__,
    )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: expected predictions of YOLO, but it cannot be read ({error})"
        raise DataError(msg) from error
    return [line for line in text.splitlines() if line.strip()]


def _parsed(line: str, where: str) -> Sequence[float]:
    """Return the six numbers of a line."""
    parts = line.split()
    if len(parts) == NUMBERS - 1:
        msg = f"{where}: has no confidence; let your tool write it (Ultralytics: save_conf=True)"
        raise DataError(msg)
    try:
        numbers = [float(part) for part in parts]
    except ValueError as error:
        msg = f"{where}: expected numbers, found {line[:60]!r}"
        raise DataError(msg) from error
    if len(numbers) != NUMBERS or not numbers[0].is_integer():
        msg = f"{where}: expected class, x, y, width, height, confidence, found {line[:60]!r}"
        raise DataError(msg)
    return numbers
