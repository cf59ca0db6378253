"""The rows of a file of predictions: what every format is read into, and the rules that they must pass.

A row must have an image of the pool, a known class, a score in 0..1 and finite numbers, else the file is refused. A box
that reaches over the edge of its image is clipped, and one without area inside it is left out; both are counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from jaxtyping import Float32, Float64, Int64

from alloop.data.image_index import match_names
from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.geometry.boxes import from_xywh
from alloop.predictions.predictions import Predictions, grouped
from alloop.values import ImageId, ImageRecord

TOLERANCE = 1e-3  # by which rounding may lift a score, or the sum of a posterior, above 1


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file as they stand in it, with images and classes found.

    Attributes:
        place: the file or folder, for messages.
        image_rows: the row of each one's image among the images of the pool.
        labels: its class.
        bbox: `(x, y, width, height)` in pixels.
        scores: its confidence.
        probabilities: its class posterior; None where the file has none.
        where: names a row for messages, such as `file: row 3 (image 7)`.
    """

    place: str
    image_rows: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    bbox: Float64[np.ndarray, "n 4"]
    scores: Float64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, "n k"] | None
    where: Callable[[int], str]


class KnownImages:
    """The images that predictions may be about, found by id or by name."""

    def __init__(self, images: Sequence[ImageRecord]) -> None:
        """Remember the images."""
        self.images = images
        ids = np.array([image.image_id for image in images], dtype=np.int64)
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]
        self._row_of_id = {image.image_id: row for row, image in enumerate(images)}

    def rows_of_ids(self, ids: Int64[np.ndarray, " n"], place: str) -> Int64[np.ndarray, " n"]:
        """Return the row of each image.

        Raises:
            DataError: an id that no image has.
        """
        at = np.searchsorted(self._sorted, ids)
        found = at < len(self._sorted)
        found[found] = self._sorted[at[found]] == ids[found]
        if not found.all():
            row = int(np.flatnonzero(~found)[0])
            msg = (
                f"{place}: row {row}: image_id {ids[row]} is no image of the pool ({int((~found).sum())} such rows). "
                "Ids are those of the pool's file; images may also be named by their file names"
            )
            raise DataError(msg)
        return np.asarray(self._order[at], dtype=np.int64)

    def rows_of_names(self, names: Sequence[str], place: str, notes: Notes) -> Int64[np.ndarray, " n"]:
        """Return the row of each image; a name finds an image as everywhere, see `alloop.data.image_index`.

        Raises:
            DataError: a name that belongs to no image, or may mean several.
        """
        matches = match_names(dict.fromkeys(names), self.images, place)
        for note in matches.notes:
            notes.add(note.rule, note.first, note.count)
        if matches.unknown:
            msg = f"{place}: {matches.unknown[0]!r} is no image of the pool ({len(matches.unknown)} such names)"
            raise DataError(msg)
        rows = {name: self._row_of_id[image.image_id] for name, image in matches.by_name.items()}
        return np.fromiter((rows[name] for name in names), dtype=np.int64, count=len(names))

    def rows_of_texts(self, texts: Sequence[str], place: str, notes: Notes) -> Int64[np.ndarray, " n"]:
        """Return the row of each image: by id where every text is an id of the pool, else by name.

        Raises:
            DataError: a text that belongs to no image.
        """
        ids = {str(image.image_id): row for row, image in enumerate(self.images)}
        others = [text for text in texts if text not in ids]
        if not others:
            return np.array([ids[text] for text in texts], dtype=np.int64)
        try:
            return self.rows_of_names(texts, place, notes)
        except DataError as error:
            if len(others) == len(texts):
                raise
            msg = f"{place}: {others[0]!r} is no image of the pool ({len(others)} such lines)"  # the rest are ids
            raise DataError(msg) from error


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes that predictions may have, in label order, and their ids in COCO files."""

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    def labels_of(
        self, values: Sequence[int] | Sequence[str], known: Sequence[int] | Sequence[str], place: str, key: str
    ) -> Int64[np.ndarray, " n"]:
        """Return the label of each value, its place among `known`; raise DataError naming `key` for another value."""
        labels = {value: label for label, value in enumerate(known)}
        found = [labels.get(value, -1) for value in values]
        if -1 in found:
            row = found.index(-1)
            listed = ", ".join(f"{value} ({name})" for value, name in zip(known, self.names, strict=True))
            msg = f"{place}: row {row}: {key} {values[row]!r} is none of the classes; they are {listed}"
            raise DataError(msg)
        return np.array(found, dtype=np.int64)


def checked(rows: Rows, images: Sequence[ImageRecord], classes: int, notes: Notes) -> Predictions:
    """Return rows that passed the rules, image by image.

    Raises:
        DataError: a number that is not finite, a score outside 0..1, a posterior that is none.
    """
    _refuse_wrong_numbers(rows)
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float64).reshape(-1, 2)
    limits = sizes[rows.image_rows]
    corners = from_xywh(rows.bbox)
    clipped = np.clip(corners, 0.0, np.concatenate([limits, limits], axis=1))
    kept = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
    moved = kept & (np.abs(clipped - corners).max(axis=1, initial=0.0) > 1.0)
    for rule, found in (
        ("a predicted box reaches over the edge of its image; clipped", moved),
        ("a predicted box has no area inside its image; left out", ~kept),
    ):
        if found.any():
            notes.add(rule, rows.where(int(np.flatnonzero(found)[0])), int(found.sum()))
    scores: Float32[np.ndarray, " n"] = np.minimum(rows.scores[kept], 1.0).astype(np.float32)
    probabilities = None if rows.probabilities is None else rows.probabilities[kept].astype(np.float32)
    boxes = clipped[kept].astype(np.float32)
    return grouped(
        images,
        rows.image_rows[kept],
        boxes,
        scores,
        rows.labels[kept],
        probabilities,
        classes,
        file_rows=np.flatnonzero(kept).astype(np.int64),
        file_length=len(kept),
    )


def _refuse_wrong_numbers(rows: Rows) -> None:
    """Refuse numbers that are not finite, and scores and probabilities outside 0..1."""
    infinite = np.flatnonzero(~np.isfinite(rows.bbox).all(axis=1))
    if len(infinite):
        _refuse(rows, infinite, f"bbox {rows.bbox[infinite[0]].tolist()} is not finite")
    outside = np.flatnonzero(~_is_share(rows.scores))
    if len(outside):
        _refuse(rows, outside, f"score {rows.scores[outside[0]]:g} is no confidence between 0 and 1")
    p = rows.scores[:, None] if rows.probabilities is None else rows.probabilities
    outside = np.flatnonzero(~_is_share(p).all(axis=1))
    if len(outside):
        _refuse(rows, outside, f"probabilities {p[outside[0]].tolist()} are not all between 0 and 1")


def _is_share(values: np.ndarray) -> np.ndarray:
    """Return which numbers lie in 0..1; NaN does not."""
    return np.asarray((values >= 0) & (values <= 1 + TOLERANCE))


def _refuse(rows: Rows, wrong: Int64[np.ndarray, " w"], reason: str) -> NoReturn:
    """Raise DataError for the first of the wrong rows."""
    more = f" ({len(wrong)} such rows)" if len(wrong) > 1 else ""
    raise DataError(f"{rows.where(int(wrong[0]))}: {reason}{more}")


def merged(parts: Sequence[Predictions], places: Sequence[str], images: Sequence[ImageRecord]) -> Predictions:
    """Return the predictions of several files, for example of several machines.

    Raises:
        DataError: two files have predictions for the same image, or only some of the files have posteriors.
    """
    counts = np.stack([np.diff(part.ends, prepend=0) for part in parts])  # [files, images]
    twice = np.flatnonzero((counts > 0).sum(axis=0) > 1)
    if len(twice):
        one, other = (places[row] for row in np.flatnonzero(counts[:, twice[0]])[:2])
        image = images[int(twice[0])]
        msg = (
            f"{one} and {other} both have predictions for image {image.image_id} ({image.file_name}); give one of them"
        )
        raise DataError(msg)
    known = [part.probabilities for part in parts if part.probabilities is not None]
    if known and len(known) < len(parts):
        without = places[next(row for row, part in enumerate(parts) if part.probabilities is None)]
        msg = f"{without}: has scores alone, the other files have class posteriors; give them for all files or for none"
        raise DataError(msg)
    image_rows = np.concatenate([np.repeat(np.arange(len(images)), count) for count in counts])
    return grouped(
        images,
        image_rows,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(known) if known else None,
        parts[0].classes,
    )


def image_where(place: str, images: Sequence[ImageRecord], image_rows: Int64[np.ndarray, " n"]) -> Callable[[int], str]:
    """Return a function that names a row of a file by its number and its image."""

    def where(row: int) -> str:
        image = images[int(image_rows[row])]
        return f"{place}: row {row} (image {ImageId(image.image_id)}, {image.file_name})"

    return where
