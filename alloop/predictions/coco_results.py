"""COCO results: a JSON list of `{image_id, category_id, bbox, score}`, with `probabilities` of all classes if known."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float64

from alloop.data.formats.coco import read_bytes
from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.predictions.rows import Classes, KnownImages, Rows, image_where


class _Result(msgspec.Struct, gc=False):
    """One detection; an image may be named by its id or by its file name. Other keys are not read."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    probabilities: list[float] | None = None


_RESULTS = msgspec.json.Decoder(list[_Result])


def read_coco_results(path: Path, images: KnownImages, classes: Classes, notes: Notes) -> Rows:
    """Read a JSON file, plain or gzipped.

    Raises:
        DataError: not JSON, no list of results, an unknown image or class.
    """
    try:
        results = _RESULTS.decode(read_bytes(path))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        msg = (
            f"{path}: expected COCO results, a list of objects with image_id, category_id, bbox [x, y, width, height] "
            f"and score ({error}). NaN and Infinity are no JSON"
        )
        raise DataError(msg) from error
    count = len(results)
    named = [isinstance(result.image_id, str) for result in results]
    if any(named) and not all(named):
        row = named.index(not named[0])
        msg = f"{path}: row {row}: image_id is {results[row].image_id!r}; give ids or file names, not both in one file"
        raise DataError(msg)
    if count and named[0]:
        image_rows = images.rows_of_names([str(result.image_id) for result in results], str(path), notes)
    else:
        ids = _whole_numbers([int(result.image_id) for result in results], path)
        image_rows = images.rows_of_ids(ids, str(path))
    values = [result.category_id for result in results]
    return Rows(
        place=str(path),
        image_rows=image_rows,
        labels=classes.labels_of(values, classes.category_ids, str(path), "category_id"),
        bbox=np.fromiter(chain.from_iterable(r.bbox for r in results), np.float64, 4 * count).reshape(-1, 4),
        scores=np.fromiter((result.score for result in results), np.float64, count),
        probabilities=_probabilities(results, len(classes.names), path),
        where=image_where(str(path), images.images, image_rows),
    )


def _whole_numbers(ids: Sequence[int], path: Path) -> np.ndarray:
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError as error:
        msg = f"{path}: an image_id does not fit into 64 bits"
        raise DataError(msg) from error


def _probabilities(results: Sequence[_Result], classes: int, path: Path) -> Float64[np.ndarray, "n k"] | None:
    """Return the posteriors; None where no result has one."""
    lengths = [None if result.probabilities is None else len(result.probabilities) for result in results]
    if not any(length is not None for length in lengths):
        return None
    wrong = next((row for row, length in enumerate(lengths) if length != classes), None)
    if wrong is not None:
        found = "none" if lengths[wrong] is None else f"{lengths[wrong]}"
        msg = f"{path}: row {wrong}: expected probabilities of all {classes} classes, in their order, found {found}"
        raise DataError(msg)
    return np.array([result.probabilities for result in results], dtype=np.float64)
