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
    """Return 1 - (p_(1) - p_(2)); with one class the second is the background."""
    p = np.sort(class_distribution(detections, belief), axis=1)
    closeness: np.ndarray = 1.0 - (p[:, -1] - p[:, -2])
    return closeness


@dataclass(frozen=True)
class Margin:
    """Choose the images whose detections have two classes of nearly the same probability.

    Attributes:
        aggregation: `max`, `min`, `mean` or `sum` over the detections of an image.
        score_threshold: detections of a lower score are left out.
        belief: distribution over the classes, `posterior`, or over the detection's `score` and the rest.
    """

    aggregation: Aggregation = "mean"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    source: ClassVar[str] = "Scheffer et al. 2001"

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections."""
        return frozenset({Need.DETECTIONS})

    def select(self, query: Query) -> Selection:
        """Rank by aggregated closeness, largest first."""
        closeness = partial(detection_closeness, belief=self.belief)
        return select_uncertain(query, closeness, self.aggregation, self.score_threshold)
