"""Forgetting events (Toneva et al. 2019) of mask pixels, as TFDP adapts it: keep what is learned and lost again.

    F = number of states of the training at which a pixel is wrong that was right one state before

A pixel is right where sigmoid(logit) > 1/2 exactly inside the mask. The released code means to count the states at
which an instance's loss is above its minimum so far, but forgets that minimum each epoch; `definition: released`
counts them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.mask_pixels import MASK_NEEDS, Definition, cross_entropy, ranked_by_image, score_instances


def right(pixels: MaskPixels) -> Bool[np.ndarray, "n m m"]:
    """Return which pixels are classified correctly as inside or outside the mask."""
    correct: np.ndarray = (pixels.label_logits > 0) == pixels.truth
    return correct


def events(states: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """Return how often a pixel of each instance is forgotten on average; `states` are results of `right`."""
    counts = np.zeros(states[0].shape)
    for before, now in pairwise(states):
        counts += before & ~now
    mean: np.ndarray = counts.mean(axis=(1, 2))
    return mean


def rises(losses: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """Return the number of states at which each loss `[n]` is above its minimum so far."""
    minimum, counts = losses[0], np.zeros(losses[0].shape)
    for loss in losses[1:]:
        counts += loss > minimum
        minimum = np.minimum(minimum, loss)
    return counts


@dataclass(frozen=True)
class Forgetting:
    """Choose the images whose mask pixels are forgotten most often, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or what its `released` code means.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    definition: Definition = "paper"
    score_threshold: float = 0.3

    source: ClassVar[str] = "Toneva et al. 2019"

    @property
    def needs(self) -> frozenset[Need]:
        """Need masks at several states of the training, and the detections that locate them."""
        return MASK_NEEDS | {Need.SNAPSHOTS}

    def select(self, query: Query) -> Selection:
        """Rank by the sum over instances, largest first."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """Rank by the sum over the given instances, largest first."""
        return ranked_by_image(query, instances, highest=True)

    def instance_scores(self, query: Query) -> InstanceScores:
        """Return how often each instance is forgotten."""
        score, combine = (right, events) if self.definition == "paper" else (cross_entropy, rises)
        snapshots = range(query.detector.snapshots)
        return score_instances(query, self.annotations, self.score_threshold, snapshots, score, combine)
