"""Embeddings from a `.npy` file: a row of numbers for each image, in the order of the pool or of a list of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.predictions.rows import KnownImages
from alloop.values import ImageId

_CHECKED = 1 << 22  # numbers that are checked at once


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors of images; the file is read where it is asked for.

    Attributes:
        place: the file, for messages.
        vectors: `[n, d]`.
        rows: the row of each image that has one.
    """

    place: str
    vectors: np.ndarray
    rows: dict[ImageId, int]

    def of_images(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """Return one vector per image; raise DataError for an image that has none."""
        missing = next((image_id for image_id in image_ids if image_id not in self.rows), None)
        if missing is not None:
            msg = f"{self.place}: has no embedding of image {missing}; write one row for each image"
            raise DataError(msg)
        return np.asarray(self.vectors[[self.rows[image_id] for image_id in image_ids]], dtype=np.float32)


def read_embeddings(
    path: Path, listed: Path | None, images: KnownImages, notes: Notes, ids_from: str = "--embedding-ids FILE"
) -> Embeddings:
    """Read a `.npy` file `[n, d]` of finite numbers.

    Args:
        path: the file.
        listed: a text file with the id or file name of an image on each line, in the order of the rows; None where the
            rows are the images of the pool in the order of its file.
        images: the images that may be named.
        notes: counts what was read leniently.
        ids_from: what gives the list, for messages.

    Raises:
        DataError: unreadable, no matrix of numbers, not finite, another number of rows than images.
    """
    vectors = read_matrix(path)
    if listed is None:
        if len(vectors) != len(images.images):
            count = len(images.images)
            msg = f"{path}: expected a row for each of the {count} images of the pool, found {len(vectors)}"
            raise DataError(f"{msg}; name the image of each row with {ids_from}")
        return Embeddings(str(path), vectors, {image.image_id: row for row, image in enumerate(images.images)})
    rows = _listed_rows(listed, images, notes)
    if len(rows) != len(vectors):
        msg = f"{listed}: names {len(rows)} images, {path} has {len(vectors)} rows; there must be as many"
        raise DataError(msg)
    named = [images.images[row].image_id for row in rows]
    if len(set(named)) < len(named):
        twice = next(image_id for image_id in named if named.count(image_id) > 1)
        msg = f"{listed}: image {twice} stands twice"
        raise DataError(msg)
    return Embeddings(str(path), vectors, {image_id: row for row, image_id in enumerate(named)})


def read_matrix(path: Path) -> np.ndarray:
    """Return a `.npy` file `[n, d]` of finite numbers, which stays on the disk until it is read.

    Raises:
        DataError: unreadable, no matrix of numbers, or a number that is not finite.
    """
    try:
        vectors: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path}: expected embeddings as a .npy file of numbers, but it cannot be read ({error})"
        raise DataError(msg) from error
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        shape = getattr(vectors, "shape", "several arrays")
        msg = f"{path}: expected one matrix of numbers [images, length], found {shape}"
        raise DataError(msg)
    step = max(1, _CHECKED // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        finite = np.isfinite(vectors[start : start + step]).all(axis=1)
        if not finite.all():
            msg = f"{path}: row {start + int(np.flatnonzero(~finite)[0])} holds a number that is not finite"
            raise DataError(msg)
    return vectors


def _listed_rows(listed: Path, images: KnownImages, notes: Notes) -> list[int]:
    """Return the rows of the images that a list names: by id where every line is an id of the pool, else by name."""
    try:
        lines = [line.strip() for line in listed.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{listed}: expected a list of images, but it cannot be read ({error})"
        raise DataError(msg) from error
    return [int(row) for row in images.rows_of_texts(lines, str(listed), notes)]
