"""From the uncertainty of each detection to the utility of an image: max, min, mean or sum over its detections."""

from collections.abc import Callable
from typing import Literal

import numpy as np
from jaxtyping import Float

from alloop.query import Query
from alloop.values import Detections, Selection

Aggregation = Literal["max", "min", "mean", "sum"]
Belief = Literal["posterior", "score"]
_CHUNK = 2048  # images whose detections are held at a time
_AGGREGATE: dict[Aggregation, Callable[[np.ndarray], np.floating]] = {
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
    "sum": np.sum,
}


def class_distribution(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, "n k1"]:
    """Foreground posteriors and the background's remainder, each row scaled to sum to 1.

    Sigmoid heads give independent probabilities whose sum may pass 1; the background then gets 0.
    With belief `score` there are two outcomes, the reported score and the rest: all that ISAL's
    released code sees of a detection.
    """
    foreground = (detections.probabilities if belief == "posterior" else detections.scores[:, None]).astype(np.float64)
    background = np.maximum(0.0, 1.0 - foreground.sum(axis=1, keepdims=True))
    rows = np.concatenate([foreground, background], axis=1)
    scaled: np.ndarray = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1e-12)
    return scaled


def select_uncertain(
    query: Query,
    uncertainty: Callable[[Detections], Float[np.ndarray, " n"]],
    aggregation: Aggregation,
    score_threshold: float,
) -> Selection:
    """Rank by aggregated uncertainty, largest first. An image without detections comes last, in random order.

    Args:
        query: the question.
        uncertainty: a non-negative number for each detection.
        aggregation: how an image's detections become one number. `sum` favours images of many boxes.
        score_threshold: detections below it are left out.
    """
    ids = sorted(query.unlabeled)
    utilities, scored = np.zeros(len(ids)), np.zeros(len(ids), dtype=np.bool_)
    for start in range(0, len(ids), _CHUNK):
        for row, found in enumerate(query.detector.detections(ids[start : start + _CHUNK]), start=start):
            values = uncertainty(found)[found.scores >= score_threshold]
            scored[row] = len(values) > 0
            if scored[row]:
                utilities[row] = _AGGREGATE[aggregation](values)
    return query.top(ids, utilities, scored=scored)
