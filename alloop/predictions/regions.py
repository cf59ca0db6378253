"""Vectors of regions from files: one for each predicted box of the pool, and one for each labeled box."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from alloop.errors import DataError, StrategyError
from alloop.predictions.embeddings import read_matrix
from alloop.predictions.predictions import Predictions
from alloop.values import Annotations, ImageId


@dataclass(frozen=True, slots=True, eq=False)
class RegionFeatures:
    """Vectors of the boxes of many images, image after image.

    Attributes:
        rows: the row of each image.
        ends: for each image the row behind its last box.
        boxes: xyxy in absolute pixels, as the strategy sees them.
        vectors: one for each box.
    """

    rows: dict[ImageId, int]
    ends: Int64[np.ndarray, " images"]
    boxes: Float32[np.ndarray, "n 4"]
    vectors: Float32[np.ndarray, "n d"]

    def of_boxes(self, image_id: ImageId, boxes: Float32[np.ndarray, "m 4"]) -> Float32[np.ndarray, "m d"]:
        """Return the vectors of some boxes of an image.

        Raises:
            StrategyError: a box that was neither predicted nor labeled.
        """
        row = self.rows.get(image_id)
        begin, end = (0, 0) if row is None else (int(self.ends[row - 1]) if row else 0, int(self.ends[row]))
        same = (boxes[:, None] == self.boxes[None, begin:end]).all(axis=2)
        unknown = np.flatnonzero(~same.any(axis=1))
        if len(unknown):
            box = boxes[unknown[0]].tolist()
            msg = f"image {image_id}: box {box} was neither predicted nor labeled, so its features are not known"
            raise StrategyError(msg)
        return self.vectors[begin + same.argmax(axis=1)] if len(boxes) else self.vectors[:0]


def read_region_features(
    pool_file: Path, labeled_file: Path | None, predictions: Predictions, labeled: Mapping[ImageId, Annotations]
) -> RegionFeatures:
    """Read the vectors of all regions.

    Args:
        pool_file: a `.npy` file with a row for each row of the file of predictions, in its order.
        labeled_file: a `.npy` file with a row for each labeled box, image by image in the order of `labeled`; None
            where nothing is labeled.
        predictions: those of the pool, read from one file.
        labeled: annotations of the labeled images.

    Raises:
        DataError: unreadable, not finite, another number of rows, or vectors of two lengths; the file is named.
    """
    assert predictions.file_rows is not None  # they come from one file
    of_pool, of_labels = _matrix(pool_file, predictions.file_length, "rows of the file of predictions"), None
    if labeled_file is not None:
        of_labels = _matrix(labeled_file, sum(map(len, labeled.values())), "labeled boxes")
        if of_pool.shape[1] != of_labels.shape[1]:
            lengths = f"vectors of {of_labels.shape[1]} numbers, and those of {pool_file.name} have {of_pool.shape[1]}"
            raise DataError(f"{labeled_file}: {lengths}; give both the same length")
    images = [*predictions.rows, *(image_id for image_id in labeled if image_id not in predictions.rows)]
    vectors = of_pool[predictions.file_rows]
    return _joined(images, predictions, vectors, labeled, of_pool[:0] if of_labels is None else of_labels)


def _joined(
    images: list[ImageId],
    predictions: Predictions,
    of_pool: np.ndarray,
    truths: Mapping[ImageId, Annotations],
    of_labels: np.ndarray,
) -> RegionFeatures:
    """Return the regions of every image: its predicted boxes, and then its labeled ones."""
    first = np.cumsum([0, *(len(truth) for truth in truths.values())])
    begins = dict(zip(truths, first.tolist(), strict=False))
    boxes, vectors, ends = [], [], []
    for image_id in images:
        begin, end = predictions.span(image_id) if image_id in predictions.rows else (0, 0)
        truth = truths[image_id].boxes if image_id in truths else np.zeros((0, 4), dtype=np.float32)
        start = begins.get(image_id, 0)
        boxes += [predictions.boxes[begin:end], truth]
        vectors += [of_pool[begin:end], of_labels[start : start + len(truth)]]
        ends.append(end - begin + len(truth))
    return RegionFeatures(
        rows={image_id: row for row, image_id in enumerate(images)},
        ends=np.cumsum(ends, dtype=np.int64),
        boxes=np.concatenate(boxes).astype(np.float32),
        vectors=np.concatenate(vectors).astype(np.float32),
    )


def _matrix(path: Path, rows: int, what: str) -> np.ndarray:
    vectors = read_matrix(path)
    if len(vectors) != rows:
        msg = f"{path}: expected a row for each of the {rows} {what}, found {len(vectors)}"
        raise DataError(msg)
    return vectors
