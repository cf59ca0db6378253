"""Area under the margin (Pleiss et al. 2020) of mask pixels, as TFDP adapts it: keep the images of smallest margin.

    M = p(the pixel's true side) - p(its other side) = (2 y - 1)(2 s - 1)        A = mean of M over the training

with s = sigmoid(logit of the instance's class) and y = 1 inside the mask. Small or negative is hard. With
`between: classes` the margin is that of the instance's class over the best other one, inside the mask. The released
code computes the difference of the two largest class logits, at the last state alone and without looking at y;
`definition: released` is that.

TFDP sums over the instances of an image (equation 3). The margins of learned pixels are positive, so the smallest sums
are those of images with few instances: EL2N of the same state is (1 - M) / 2 of each instance, and keeps the images
with many. `aggregation: mean` ranks by difficulty whatever the number of instances. The released code keeps the lowest
on VOC and the highest elsewhere; `order` says which.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.mask_pixels import MASK_NEEDS, Aggregation, Definition, ranked_by_image, score_instances, sigmoid


def pixel_margin(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean margin of inside against outside over each instance's pixels."""
    sign = 2.0 * pixels.truth - 1
    mean: np.ndarray = (sign * (2 * sigmoid(pixels.label_logits.astype(np.float64)) - 1)).mean(axis=(1, 2))
    return mean


def class_margin(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean margin of the own class over the best other, over the pixels inside each mask.

    It is 0 for an empty mask.
    """
    others = _several_classes(pixels).astype(np.float64).copy()
    others[np.arange(len(pixels.labels)), pixels.labels] = -np.inf
    margin = sigmoid(pixels.label_logits.astype(np.float64)) - sigmoid(others.max(axis=1))
    inside = pixels.truth.sum(axis=(1, 2))
    mean: np.ndarray = (margin * pixels.truth).sum(axis=(1, 2)) / np.maximum(inside, 1)
    return mean


def largest_two(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean difference of the two largest class logits of each instance's pixels."""
    ordered = np.sort(_several_classes(pixels).astype(np.float64), axis=1)
    mean: np.ndarray = (ordered[:, -1] - ordered[:, -2]).mean(axis=(1, 2))
    return mean


def _several_classes(pixels: MaskPixels) -> np.ndarray:
    """Return the logits of all classes; raise StrategyError where there is only one."""
    if pixels.logits.shape[1] < 2:
        msg = "aum: a margin between classes needs two of them, and the data have one; set strategy.between to pixels"
        raise StrategyError(msg)
    return pixels.logits


def mean_over_states(states: list[np.ndarray]) -> Float[np.ndarray, " n"]:
    """Return A: the margin of each instance, averaged over the states of the training."""
    mean: np.ndarray = np.mean(states, axis=0)
    return mean


@dataclass(frozen=True)
class Aum:
    """Choose the images whose masks were learned with the least margin.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code.
        between: margin between inside and outside at each of the `pixels`, or between `classes`.
        aggregation: `sum` over the instances, as published, which favours images with few of them, or their `mean`.
        order: whether the `lowest` or the `highest` margins are chosen.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    definition: Definition = "paper"
    between: Literal["pixels", "classes"] = "pixels"
    aggregation: Aggregation = "sum"
    order: Literal["lowest", "highest"] = "lowest"
    score_threshold: float = 0.3

    source: ClassVar[str] = "Pleiss et al. 2020"

    @property
    def needs(self) -> frozenset[Need]:
        """Need masks at several states of the training, and the detections that locate them."""
        return MASK_NEEDS | {Need.SNAPSHOTS}

    def select(self, query: Query) -> Selection:
        """Rank by the margins of the instances."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """Rank by the margins of the given instances."""
        highest = self.order == "highest"
        return ranked_by_image(query, instances, highest=highest, aggregation=self.aggregation)

    def instance_scores(self, query: Query) -> InstanceScores:
        """Return the margin of each instance, averaged over the training."""
        snapshots = range(query.detector.snapshots)
        if self.definition == "released":
            return score_instances(query, self.annotations, self.score_threshold, snapshots[-1:], largest_two)
        margin = pixel_margin if self.between == "pixels" else class_margin
        return score_instances(
            query, self.annotations, self.score_threshold, snapshots, margin, combine=mean_over_states
        )
