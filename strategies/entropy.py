"""Entropy of the class posterior: H(p) = -sum_k p_k log p_k (Shannon 1948; Settles 2009, section 2.2.3)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, class_distribution, select_uncertain


def detection_entropy(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """H in nats over the classes and the background; 0 log 0 = 0."""
    p = class_distribution(detections, belief)
    entropy: np.ndarray = -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)
    return entropy


@dataclass(frozen=True)
class Entropy:
    """Images whose detections have the most uncertain class."""

    aggregation: Aggregation = "sum"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS})
    source: ClassVar[str] = "Settles 2009"

    def select(self, query: Query) -> Selection:
        """Largest aggregated entropy first."""
        entropy = partial(detection_entropy, belief=self.belief)
        return select_uncertain(query, entropy, self.aggregation, self.score_threshold)
