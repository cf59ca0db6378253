"""The table of prediction formats, and files of predictions read into one value."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from alloop.data.notes import Notes
from alloop.errors import ConfigError, nearest
from alloop.predictions.predictions import Predictions
from alloop.predictions.rows import Classes, KnownImages, Rows, checked, merged

Reader = Callable[[Path, KnownImages, Classes, Notes], Rows]

PREDICTION_FORMATS = {
    "coco": "alloop.predictions.coco_results:read_coco_results",
    "csv": "alloop.predictions.csv_rows:read_csv_rows",
    "yolo": "alloop.predictions.yolo_txt:read_yolo_txt",
}


def read_predictions(
    paths: Sequence[Path], images: KnownImages, classes: Classes, notes: Notes, format_: str | None = None
) -> Predictions:
    """Return the predictions of one or several files or folders.

    Args:
        paths: files or folders; no image may be in two of them.
        images: the images that they may be about.
        classes: the classes that they may have.
        notes: counts what was read leniently.
        format_: a name of the table; by default a folder is `yolo`, a file `.csv` is `csv`, all else `coco`.

    Raises:
        DataError: unreadable, unknown images or classes, numbers that are not finite; file and row are named.
        ConfigError: an unknown format.
    """
    files = (_reader(format_ or guessed(path))(path, images, classes, notes) for path in paths)
    read = [checked(rows, images.images, len(classes.names), notes) for rows in files]
    return merged(read, [str(path) for path in paths], images.images) if len(read) > 1 else read[0]


def guessed(path: Path) -> str:
    """Return the format that a path looks like."""
    if path.is_dir():
        return "yolo"
    return "csv" if path.suffix.lower() == ".csv" else "coco"


def _reader(name: str) -> Reader:
    if name not in PREDICTION_FORMATS:
        known = ", ".join(PREDICTION_FORMATS)
        msg = f"--from: {name!r} is no format of predictions{nearest(name, PREDICTION_FORMATS)}; there are {known}"
        raise ConfigError(msg)
    module, _, function = PREDICTION_FORMATS[name].partition(":")
    reader: Reader = getattr(importlib.import_module(module), function)
    return reader
