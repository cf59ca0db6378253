"""What the pruning scores of mask pixels share: pixels to instances by the mean, instances to images by the sum.

TFDP compares itself with scores from classification, computed for every pixel of a mask head (its equation 3):

    I = sum over instances of (mean over pixels of the pixel's score)

The pixels are those of the mask head's grid inside the annotated box of each instance.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64

from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import ImageId, InstanceScores, MaskPixels, Selection
from strategies.instances import instances_of
from strategies.streaming import IMAGES_WITH_MASKS, chunked

Definition = Literal["paper", "released"]
Aggregation = Literal["sum", "mean"]
MASK_NEEDS = frozenset({Need.DETECTIONS, Need.MASKS})
Score = Callable[[MaskPixels], np.ndarray]
"""From the pixels of n instances at one state of the training to an array `[n, ...]`."""
Combine = Callable[[list[np.ndarray]], np.ndarray]
"""From one such array per state of the training to the scores `[n]`."""


def sigmoid(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return 1 / (1 + exp(-z)), without overflow."""
    probabilities: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return probabilities


def cross_entropy(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean binary cross entropy of each instance's mask: its part of the training loss."""
    z = pixels.label_logits.astype(np.float64)
    mean: np.ndarray = (np.logaddexp(0, z) - z * pixels.truth).mean(axis=(1, 2))
    return mean


def first_state(states: list[np.ndarray]) -> np.ndarray:
    """Return the scores of a single state."""
    return states[0]


def score_instances(
    query: Query,
    source: AnnotationSource,
    score_threshold: float,
    snapshots: Sequence[int],
    score: Score,
    combine: Combine = first_state,
) -> InstanceScores:
    """Score every instance of the unlabeled images at some states of the training.

    Args:
        query: gives the images and the detector with its states.
        source: whether the instances are predicted or true masks.
        score_threshold: detections of a lower score are no instances.
        snapshots: numbers of the states.
        score: what is computed from the pixels at one state.
        combine: how the states become one number per instance.
    """
    image_ids = sorted(query.unlabeled)
    instances = instances_of(query, image_ids, source, score_threshold)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    finished = 0
    for chunk in chunked(image_ids, IMAGES_WITH_MASKS):
        annotations = {image_id: instances[image_id] for image_id in chunk}
        states = [list(map(score, query.detector.mask_pixels(chunk, annotations, number))) for number in snapshots]
        for image_id, image_states in zip(chunk, zip(*states, strict=True), strict=True):
            rows = np.flatnonzero(annotations[image_id].trainable)
            labels = annotations[image_id].labels[rows]
            parts.append((np.full(len(rows), image_id), rows, labels, combine(list(image_states))))
        finished += len(chunk)
        query.progress("scoring mask pixels", finished, len(image_ids))
    return InstanceScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ranked_by_image(
    query: Query, instances: InstanceScores, *, highest: bool, aggregation: Aggregation = "sum"
) -> Selection:
    """Rank images by the scores of their instances; those without one come last, in random order."""
    image_ids = np.array(sorted(query.unlabeled), dtype=np.int64)
    scores = image_scores(instances, image_ids, aggregation)
    return query.top(
        [ImageId(i) for i in image_ids.tolist()],
        scores if highest else -scores,
        scored=np.isin(image_ids, instances.image_ids),
    )


def image_scores(
    instances: InstanceScores, image_ids: Int64[np.ndarray, " m"], aggregation: Aggregation
) -> Float[np.ndarray, " m"]:
    """Return the sum or the mean of the scores of each image, 0 where it has no instance.

    `image_ids` ascend and contain every image with an instance.
    """
    sums = instances.summed(image_ids)
    if aggregation == "sum":
        return sums
    counts = np.bincount(np.searchsorted(image_ids, instances.image_ids), minlength=len(image_ids))
    means: np.ndarray = sums / np.maximum(counts, 1)
    return means
