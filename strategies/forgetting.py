"""Forgetting events (Toneva et al. 2019) of mask pixels, as TFDP adapts it: keep what is learned and lost again.

    F = number of states of the training at which a pixel is wrong that was right one state before

A pixel is right where sigmoid(logit) > 1/2 exactly inside the mask. The released code means to count
the states at which an instance's loss is above its least so far, and forgets that least each epoch;
`definition: released` counts them.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from alloop.query import Need, Query
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.instances import Source
from strategies.mask_pixels import NEEDS, Definition, cross_entropy, ranked_by_sum, score_instances


def right(pixels: MaskPixels) -> Bool[np.ndarray, "n m m"]:
    """Which pixels are on the right side."""
    correct: np.ndarray = (pixels.own > 0) == pixels.truth
    return correct


def events(states: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """Mean number of times that a pixel of each instance is forgotten."""
    counts = np.zeros(states[0].shape)
    for before, now in pairwise(states):
        counts += before & ~now
    mean: np.ndarray = counts.mean(axis=(1, 2))
    return mean


def rises(losses: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """Number of states at which the loss `[n]` is above its least so far."""
    least, counts = losses[0], np.zeros(losses[0].shape)
    for loss in losses[1:]:
        counts += loss > least
        least = np.minimum(least, loss)
    return counts


@dataclass(frozen=True)
class Forgetting:
    """Images whose mask pixels are forgotten most often, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or what its `released` code means.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    definition: Definition = "paper"
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = NEEDS | {Need.SNAPSHOTS}
    source: ClassVar[str] = "Toneva et al. 2019"

    def select(self, query: Query) -> Selection:
        """The images of largest sum."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """The images by the sum over their instances."""
        return ranked_by_sum(query, instances, highest=True)

    def instance_scores(self, query: Query) -> InstanceScores:
        """How often each instance is forgotten."""
        score, combine = (right, events) if self.definition == "paper" else (cross_entropy, rises)
        every = range(query.detector.snapshots)
        return score_instances(query, self.annotations, self.score_threshold, every, score, combine)
