"""The boxes that an image is expected to cost: its detections from a score on that is fitted to what is labeled."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from alloop.query import Query
from alloop.randomness import rng
from alloop.values import Detections

COUNTED = 200  # unlabeled images at most on which detections are compared with the boxes of labeled ones


def fitted_threshold(query: Query, boxes_per_image: float) -> float:
    """Return the `counting_threshold` on some unlabeled images: on labeled ones the detector was trained to be right.

    Args:
        query: gives the unlabeled images and their detections.
        boxes_per_image: the number that an image is expected to hold.
    """
    ids = sorted(query.unlabeled)
    if len(ids) > COUNTED:
        rows = rng(query.random_seed, query.round, "counted").choice(len(ids), COUNTED, replace=False)
        ids = [ids[row] for row in sorted(rows)]
    return counting_threshold(query.detector.detections(ids), round(boxes_per_image * len(ids)))


def counting_threshold(detections: Sequence[Detections], boxes: int) -> float:
    """Return the score at which the number of detections equals the expected number of boxes.

    A young detector's own threshold lets ten detections per box through. The threshold is 0 where there are fewer
    detections than boxes, and infinite where no box is expected.
    """
    scores = np.sort(np.concatenate([np.zeros(0), *(image.scores for image in detections)]))[::-1]
    if boxes == 0:
        return np.inf
    return float(scores[boxes - 1]) if boxes <= len(scores) else 0.0


def expected_boxes(detections: Sequence[Detections], threshold: float) -> Int64[np.ndarray, " n"]:
    """Return the number of detections of each image that reach the threshold."""
    return np.array([(image.scores >= threshold).sum() for image in detections], dtype=np.int64)
