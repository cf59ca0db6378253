"""EL2N (Paul et al. 2021) of mask pixels, as TFDP adapts it: keep the images a half-trained detector errs on most.

    E = |s - y|        s = sigmoid(logit of the instance's class), y = 1 inside the mask and 0 outside

taken halfway through the training. The released code squares the raw logit minus y; `definition: released` is that.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.instances import Source
from strategies.mask_pixels import NEEDS, Definition, ranked_by_sum, score_instances, sigmoid


def error(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean |s - y| of each instance's pixels."""
    mean: np.ndarray = np.abs(sigmoid(pixels.own.astype(np.float64)) - pixels.truth).mean(axis=(1, 2))
    return mean


def squared_logit_error(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean (logit - y)^2 of each instance's pixels."""
    mean: np.ndarray = np.square(pixels.own.astype(np.float64) - pixels.truth).mean(axis=(1, 2))
    return mean


@dataclass(frozen=True)
class El2n:
    """Images whose masks are most wrong early in the training, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code.
        share: of the training after which it is taken; the nearest snapshot is used.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    definition: Definition = "paper"
    share: float = 0.5
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = NEEDS | {Need.SNAPSHOTS}
    source: ClassVar[str] = "Paul et al. 2021"

    def __post_init__(self) -> None:
        """Raise ValueError on a share outside (0, 1]."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share: expected a part of the training, above 0 and at most 1, found {self.share}")

    def select(self, query: Query) -> Selection:
        """The images of largest sum."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """The images by the sum over their instances."""
        return ranked_by_sum(query, instances, highest=True)

    def instance_scores(self, query: Query) -> InstanceScores:
        """The error of each instance at that state of the training."""
        score = error if self.definition == "paper" else squared_logit_error
        snapshot = max(0, round(self.share * query.detector.snapshots) - 1)  # snapshot k is (k + 1) / n of the way
        return score_instances(query, self.annotations, self.score_threshold, [snapshot], score)
