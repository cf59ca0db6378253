"""Area under the margin (Pleiss et al. 2020) of mask pixels, as TFDP adapts it: keep the images of smallest margin.

    M = p(what the pixel is) - p(what else it could be) = (2 y - 1)(2 s - 1)        A = mean of M over the training

with s = sigmoid(logit of the instance's class) and y = 1 inside the mask. Small or negative is hard.
With `between: classes` the margin is that of the instance's class over the best other one, inside the
mask. The released code takes, once and without looking at y, the difference of the two largest
class logits; `definition: released` is that.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.instances import Source
from strategies.mask_pixels import NEEDS, Definition, ranked_by_sum, score_instances, sigmoid


def pixel_margin(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean margin of object against background of each instance's pixels."""
    sign = 2.0 * pixels.truth - 1
    mean: np.ndarray = (sign * (2 * sigmoid(pixels.own.astype(np.float64)) - 1)).mean(axis=(1, 2))
    return mean


def class_margin(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean margin of the own class over the best other, over the pixels inside each mask; 0 for an empty mask."""
    others = _several_classes(pixels).astype(np.float64).copy()
    others[np.arange(len(pixels.labels)), pixels.labels] = -np.inf
    margin = sigmoid(pixels.own.astype(np.float64)) - sigmoid(others.max(axis=1))
    inside = pixels.truth.sum(axis=(1, 2))
    mean: np.ndarray = (margin * pixels.truth).sum(axis=(1, 2)) / np.maximum(inside, 1)
    return mean


def largest_two(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean difference of the two largest class logits of each instance's pixels."""
    ordered = np.sort(_several_classes(pixels).astype(np.float64), axis=1)
    mean: np.ndarray = (ordered[:, -1] - ordered[:, -2]).mean(axis=(1, 2))
    return mean


def _several_classes(pixels: MaskPixels) -> np.ndarray:
    if pixels.logits.shape[1] < 2:
        msg = "aum: a margin between classes needs two of them, and the data have one; set strategy.between to pixels"
        raise StrategyError(msg)
    return pixels.logits


@dataclass(frozen=True)
class Aum:
    """Images whose masks were learned with the least margin, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code.
        between: margin between object and background at each of the `pixels`, or between `classes`.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    definition: Definition = "paper"
    between: Literal["pixels", "classes"] = "pixels"
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = NEEDS | {Need.SNAPSHOTS}
    source: ClassVar[str] = "Pleiss et al. 2020"

    def select(self, query: Query) -> Selection:
        """The images of smallest sum."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """The images by the sum over their instances, smallest first."""
        return ranked_by_sum(query, instances, highest=False)

    def instance_scores(self, query: Query) -> InstanceScores:
        """The margin of each instance, averaged over the training."""
        last = query.detector.snapshots - 1
        if self.definition == "released":
            return score_instances(query, self.annotations, self.score_threshold, [last], largest_two)
        score = pixel_margin if self.between == "pixels" else class_margin
        return score_instances(
            query,
            self.annotations,
            self.score_threshold,
            range(last + 1),
            score,
            lambda states: np.mean(states, axis=0),
        )
