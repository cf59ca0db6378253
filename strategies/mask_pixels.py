"""What the pruning scores of mask pixels share: pixels to instances by the mean, instances to images by the sum.

TFDP compares itself with scores of classification, asked of every pixel of a mask head (its equation 3):

    I = sum over instances of (mean over pixels of the pixel's score)

The pixels are those of the mask head's grid inside the annotated box of each instance.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import ImageId, InstanceScores, MaskPixels, Selection
from strategies.instances import CHUNK, Source, instances_of

Definition = Literal["paper", "released"]
NEEDS = frozenset({Need.DETECTIONS, Need.MASKS})
Score = Callable[[MaskPixels], np.ndarray]  # something of each instance, [n, ...]
Combine = Callable[[list[np.ndarray]], np.ndarray]  # the same at each state of the training, to [n]


def sigmoid(logits: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """1 / (1 + exp(-z)), without overflow."""
    half: np.ndarray = 0.5 * (1 + np.tanh(0.5 * logits))
    return half


def cross_entropy(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """The mean binary cross entropy of each instance's mask: its part of the training loss."""
    z = pixels.own.astype(np.float64)
    mean: np.ndarray = (np.logaddexp(0, z) - z * pixels.truth).mean(axis=(1, 2))
    return mean


def score_instances(
    query: Query,
    source: Source,
    score_threshold: float,
    snapshots: Sequence[int],
    score: Score,
    combine: Combine = lambda states: states[0],
) -> InstanceScores:
    """Score every instance of the unlabeled images at some states of the training.

    Args:
        query: the question.
        source: predicted masks or true ones.
        score_threshold: less confident predictions are no instances.
        snapshots: the states.
        score: what is taken from the pixels at one state.
        combine: how the states make one number an instance.
    """
    image_ids = sorted(query.unlabeled)
    found = instances_of(query, image_ids, source, score_threshold)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for start in range(0, len(image_ids), CHUNK):
        ids = image_ids[start : start + CHUNK]
        truths = {i: found[i] for i in ids}
        states = [[score(p) for p in query.detector.mask_pixels(ids, truths, snapshot)] for snapshot in snapshots]
        for row, image_id in enumerate(ids):
            rows = np.flatnonzero(truths[image_id].trainable)
            scores = combine([state[row] for state in states])
            parts.append((np.full(len(rows), image_id), rows, truths[image_id].labels[rows], scores))
        query.progress("scoring mask pixels", start + len(ids), len(image_ids))
    return InstanceScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def ranked_by_sum(query: Query, instances: InstanceScores, *, highest: bool) -> Selection:
    """Images by the sum over their instances; those without one come last, in random order."""
    image_ids = np.array(sorted(query.unlabeled), dtype=np.int64)
    sums = instances.summed(image_ids)
    boxes = np.bincount(np.searchsorted(image_ids, instances.image_ids), minlength=len(image_ids))
    ids = [ImageId(i) for i in image_ids.tolist()]
    return query.top(ids, sums if highest else -sums, scored=boxes > 0)
