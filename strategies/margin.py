"""Margin: u = 1 - (p_(1) - p_(2)), the two largest of classes and background (Scheffer et al. 2001)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, class_distribution, select_uncertain


def detection_closeness(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """1 - (p_(1) - p_(2)); with one class the second is the background."""
    p = np.sort(class_distribution(detections, belief), axis=1)
    closeness: np.ndarray = 1.0 - (p[:, -1] - p[:, -2])
    return closeness


@dataclass(frozen=True)
class Margin:
    """Images whose detections waver between two answers."""

    aggregation: Aggregation = "mean"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS})
    source: ClassVar[str] = "Scheffer et al. 2001"

    def select(self, query: Query) -> Selection:
        """Largest aggregated closeness first."""
        closeness = partial(detection_closeness, belief=self.belief)
        return select_uncertain(query, closeness, self.aggregation, self.score_threshold)
