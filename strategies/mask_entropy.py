"""Entropy of mask pixels, as TFDP adapts it: keep the images whose masks the trained detector is least sure of.

    H = -s log s - (1 - s) log(1 - s)        s = sigmoid(logit of the instance's class)

The released code computes the mask's cross entropy under this name; `definition: released` is that.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.strategy import AnnotationSource
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.mask_pixels import MASK_NEEDS, Definition, cross_entropy, ranked_by_image, score_instances, sigmoid


def entropy(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Return the mean entropy in nats of each instance's pixels."""
    z = pixels.label_logits.astype(np.float64)
    s = sigmoid(z)
    # -log s = log(1 + exp(-z)), which does not lose the small probabilities
    mean: np.ndarray = (s * np.logaddexp(0, -z) + (1 - s) * np.logaddexp(0, z)).mean(axis=(1, 2))
    return mean


@dataclass(frozen=True)
class MaskEntropy:
    """Choose the images whose mask pixels are most uncertain, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code, the cross entropy.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    definition: Definition = "paper"
    score_threshold: float = 0.3

    source: ClassVar[str] = "Dai et al. 2024 (TFDP)"

    @property
    def needs(self) -> frozenset[Need]:
        """Need masks, and the detections that locate them."""
        return MASK_NEEDS

    def select(self, query: Query) -> Selection:
        """Rank by the sum over instances, largest first."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """Rank by the sum over the given instances, largest first."""
        return ranked_by_image(query, instances, highest=True)

    def instance_scores(self, query: Query) -> InstanceScores:
        """Return the trained detector's entropy of each instance."""
        score = entropy if self.definition == "paper" else cross_entropy
        return score_instances(query, self.annotations, self.score_threshold, [query.detector.snapshots - 1], score)
