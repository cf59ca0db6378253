"""Predictions as CSV: `image` (id or file name), `class`, `x1, y1, x2, y2` in pixels, `score`.

Columns `p:NAME`, one for each class, give the class posterior. Other columns are not read.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.geometry.boxes import to_xywh
from alloop.predictions.rows import Classes, KnownImages, Rows, image_where

CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("image", "class", *CORNERS, "score")


def read_csv_rows(path: Path, images: KnownImages, classes: Classes, notes: Notes) -> Rows:
    """Read a CSV file with a line of headings.

    Raises:
        DataError: unreadable, a missing column, a cell that is no number, an unknown image or class.
    """
    table = _columns(path)
    image_rows = images.rows_of_texts(table["image"], str(path), notes)
    wanted = [f"p:{name}" for name in classes.names]
    given = [heading for heading in table if heading.startswith("p:")]
    if given and sorted(given) != sorted(wanted):
        odd = next(iter(sorted(set(given) ^ set(wanted))))
        names = ", ".join(classes.names)
        msg = f"{path}: expected a column p:NAME for each of the classes {names}; {odd} is missing or odd"
        raise DataError(msg)
    corners = np.stack([_numbers(table[name], name, path) for name in CORNERS], axis=1)
    return Rows(
        place=str(path),
        image_rows=image_rows,
        labels=classes.labels_of(table["class"], classes.names, str(path), "class"),
        bbox=to_xywh(corners),
        scores=_numbers(table["score"], "score", path),
        probabilities=np.stack([_numbers(table[name], name, path) for name in wanted], axis=1) if given else None,
        where=image_where(str(path), images.images, image_rows),
    )


def _columns(path: Path) -> Mapping[str, Sequence[str]]:
    """Return the cells of each column, without blanks around them."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected predictions as CSV, but it cannot be read ({error})"
        raise DataError(msg) from error
    lines = [line for line in csv.reader(io.StringIO(text)) if line]
    heading = [cell.strip() for cell in lines[0]] if lines else []
    missing = [name for name in COLUMNS if name not in heading]
    if missing or len(set(heading)) < len(heading):
        problem = f"{', '.join(missing)} missing" if missing else "a heading stands twice"
        msg = f"{path}: expected the columns {', '.join(COLUMNS)}; {problem} in {', '.join(heading)[:200]!r}"
        raise DataError(msg)
    for number, line in enumerate(lines[1:]):
        if len(line) != len(heading):
            msg = f"{path}: row {number}: expected {len(heading)} cells, found {len(line)}"
            raise DataError(msg)
    return {name: [line[at].strip() for line in lines[1:]] for at, name in enumerate(heading)}


def _numbers(cells: Sequence[str], name: str, path: Path) -> Float64[np.ndarray, " n"]:
    numbers = np.zeros(len(cells))
    for row, cell in enumerate(cells):
        try:
            numbers[row] = float(cell)
        except ValueError as error:
            msg = f"{path}: row {row}: {name}: expected a number, found {cell[:40]!r}"
            raise DataError(msg) from error
    return numbers
