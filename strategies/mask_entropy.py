"""Entropy of mask pixels, as TFDP adapts it: keep the images whose masks the trained detector is least sure of.

    H = -s log s - (1 - s) log(1 - s)        s = sigmoid(logit of the instance's class)

The released code calls the mask's cross entropy by this name; `definition: released` is that.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import InstanceScores, MaskPixels, Selection
from strategies.instances import Source
from strategies.mask_pixels import NEEDS, Definition, cross_entropy, ranked_by_sum, score_instances


def entropy(pixels: MaskPixels) -> Float[np.ndarray, " n"]:
    """Mean entropy in nats of each instance's pixels."""
    z = pixels.own.astype(np.float64)
    s = 0.5 * (1 + np.tanh(0.5 * z))
    # -log s = log(1 + exp(-z)), which does not lose the small probabilities
    mean: np.ndarray = (s * np.logaddexp(0, -z) + (1 - s) * np.logaddexp(0, z)).mean(axis=(1, 2))
    return mean


@dataclass(frozen=True)
class MaskEntropy:
    """Images whose mask pixels are most uncertain, summed over instances.

    Attributes:
        annotations: score `predicted` masks, or the `true` ones, which only pruning and simulated studies allow.
        definition: of the `paper`, or of its `released` code, the cross entropy.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    definition: Definition = "paper"
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = NEEDS
    source: ClassVar[str] = "Dai et al. 2024 (TFDP)"

    def select(self, query: Query) -> Selection:
        """The images of largest sum."""
        return self.ranked(query, self.instance_scores(query))

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """The images by the sum over their instances."""
        return ranked_by_sum(query, instances, highest=True)

    def instance_scores(self, query: Query) -> InstanceScores:
        """The trained detector's entropy of each instance."""
        score = entropy if self.definition == "paper" else cross_entropy
        return score_instances(query, self.annotations, self.score_threshold, [query.detector.snapshots - 1], score)
