"""Entropy of the class posterior: H(p) = -sum_k p_k log p_k (Shannon 1948; Settles 2009, section 2.2.3)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, class_distribution, select_uncertain


def entropy_of(p: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return H in nats of each row, with 0 log 0 = 0."""
    entropy: np.ndarray = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
    return entropy


def detection_entropy(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """Return H over the classes and the background."""
    return entropy_of(class_distribution(detections, belief))


@dataclass(frozen=True)
class Entropy:
    """Choose the images whose detections, or whose class, are the most uncertain.

    The parameters are those of detections; an image with one class has one distribution.

    Attributes:
        aggregation: `max`, `min`, `mean` or `sum` over the detections of an image.
        score_threshold: detections of a lower score are left out.
        belief: distribution over the classes, `posterior`, or over the detection's `score` and the rest.
    """

    aggregation: Aggregation = "sum"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    source: ClassVar[str] = "Settles 2009"

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections or class probabilities."""
        return frozenset({Need.PREDICTIONS})

    def select(self, query: Query) -> Selection:
        """Rank by aggregated entropy, largest first."""
        entropy = partial(detection_entropy, belief=self.belief)
        return select_uncertain(query, entropy, entropy_of, self.aggregation, self.score_threshold)
