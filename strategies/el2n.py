"""EL2N (Paul et al. 2021) of mask pixels, as TFDP adapts it: keep the images with the largest error early in training.

    E = |s - y|        s = sigmoid(logit of the instance's class), y = 1 inside the mask and 0 outside

computed halfway through the training. The released code squares the raw logit minus y; `definition: released` is that.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.mask_pixels import MASK_NEEDS, Definition, ranked_by_image, score_instances, sigmoid


def error(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean |s - y| of each instance's pixels."""
    mean: np.ndarray = np.abs(sigmoid(pixels.label_logits.astype(np.float64)) - pixels.truth).mean(axis=(1, 2))
    return mean


def squared_logit_error(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean (logit - y)^2 of each instance's pixels."""
    mean: np.ndarray = np.square(pixels.label_logits.astype(np.float64) - pixels.truth).mean(axis=(1, 2))
    return mean


@dataclass(frozen=True)
class El2n:
    """Choose the images whose masks have the largest error early in the training, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code.
        share: of the training after which the error is computed; the nearest snapshot is used.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    definition: Definition = "paper"
    share: float = 0.5
    score_threshold: float = 0.3

    source: ClassVar[str] = "Paul et al. 2021"

    def __post_init__(self) -> None:
        """Raise ValueError on a share outside (0, 1]."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share: expected a part of the training, above 0 and at most 1, found {self.share}")

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
        """Return the error of each instance at that state of the training."""
        score = error if self.definition == "paper" else squared_logit_error
        # snapshot k of n is the state after the share (k + 1) / n of the training
        snapshot = max(0, round(self.share * query.detector.snapshots) - 1)
        return score_instances(query, self.annotations, self.score_threshold, [snapshot], score)
