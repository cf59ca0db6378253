"""From the uncertainty of each detection to the utility of an image.

utility = max, min, mean or sum of u(d) over the detections d of the image whose score reaches a threshold

A two-stage detector reports a region once for every class whose probability exceeds its threshold. These detections
share one posterior, so u counts once for each: `sum` counts an ambiguous region several times, and `mean` gives it more
weight. A score threshold above 0.5 leaves at most one detection of a region.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection, read_only
from strategies.class_uncertainty import DistributionUncertainty, select_uncertain_classes
from strategies.streaming import stream_detections

Aggregation = Literal["max", "min", "mean", "sum"]
Belief = Literal["posterior", "score"]
Uncertainty = Callable[[Detections], Float[np.ndarray, " n"]]
_JOINED = 4096  # images and detections that are computed together
_COLUMNS = ("boxes", "scores", "labels", "probabilities")
_AGGREGATE: dict[Aggregation, Callable[[np.ndarray], np.floating]] = {
    "max": np.max,
    "min": np.min,
    "mean": np.mean,
    "sum": np.sum,
}


def class_distribution(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, "n k1"]:
    """Return the distribution over outcomes of each detection; each row sums to 1.

    With `posterior` the outcomes are the k classes and, last, the background with what is left of 1. The independent
    probabilities of sigmoid heads may sum to more than 1; the background then gets 0. With `score` there are two
    outcomes, the reported score and the rest: all that ISAL's released code sees of a detection.
    """
    foreground = (detections.probabilities if belief == "posterior" else detections.scores[:, None]).astype(np.float64)
    background = np.maximum(0.0, 1.0 - foreground.sum(axis=1, keepdims=True))
    outcomes = np.concatenate([foreground, background], axis=1)  # [n, k + 1]
    scaled: np.ndarray = outcomes / np.maximum(outcomes.sum(axis=1, keepdims=True), 1e-12)
    return scaled


def _values(
    detections: Iterable[Detections], uncertainty: Uncertainty, score_threshold: float
) -> Iterator[Float[np.ndarray, " _"]]:
    """Yield the uncertainties of each image's detections whose score reaches the threshold.

    Images are joined first: the calls of numpy take longer than the arithmetic of one image.
    """
    waiting: list[Detections] = []
    count = 0
    for of_image in detections:
        waiting.append(of_image)
        count += 1 + len(of_image)
        if count >= _JOINED:
            yield from _joined_values(waiting, uncertainty, score_threshold)
            waiting, count = [], 0
    yield from _joined_values(waiting, uncertainty, score_threshold)


def _joined_values(
    parts: Sequence[Detections], uncertainty: Uncertainty, score_threshold: float
) -> Iterator[Float[np.ndarray, " _"]]:
    """Yield what `_values` yields for images whose detections are computed together."""
    found = [part for part in parts if len(part)]
    values = np.zeros(0)
    if found:
        columns = (np.concatenate([getattr(part, name) for part in found]) for name in _COLUMNS)
        values = uncertainty(Detections(*map(read_only, columns)))
    begin = 0
    for part in parts:
        yield values[begin : begin + len(part)][part.scores >= score_threshold]
        begin += len(part)


def select_uncertain(
    query: Query,
    uncertainty: Uncertainty,
    class_uncertainty: DistributionUncertainty,
    aggregation: Aggregation,
    score_threshold: float,
) -> Selection:
    """Rank by aggregated uncertainty, largest first. Images without detections come last, in random order.

    Where images have one class each, only `class_uncertainty` counts.

    Args:
        query: gives the images and their detections, or their class probabilities.
        uncertainty: returns a non-negative number for each detection.
        class_uncertainty: returns a number for each image, given the probabilities of its classes, a row each.
        aggregation: how the detections of an image become one number; `sum` favours images of many boxes.
        score_threshold: detections of a lower score are left out.
    """
    if Need.DETECTIONS not in query.detector.gives:
        return select_uncertain_classes(query, class_uncertainty)
    image_ids = sorted(query.unlabeled)
    utilities, scored = np.zeros(len(image_ids)), np.zeros(len(image_ids), dtype=np.bool_)
    stream = (detections for _, detections in stream_detections(query, image_ids))
    for row, values in enumerate(_values(stream, uncertainty, score_threshold)):
        if len(values):
            scored[row] = True
            utilities[row] = _AGGREGATE[aggregation](values)
    return query.top(image_ids, utilities, scored=scored)
