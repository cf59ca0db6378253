"""Margin: u = 1 - (p_(1) - p_(2)), the two largest of classes and background (Scheffer et al. 2001)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, class_distribution, select_uncertain


def closeness_of(p: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return 1 - (p_(1) - p_(2)) of each row; a single class leaves nothing to choose from."""
    if p.shape[1] < 2:
        return np.zeros(len(p))
    ordered = np.sort(p, axis=1)
    closeness: np.ndarray = 1.0 - (ordered[:, -1] - ordered[:, -2])
    return closeness


def detection_closeness(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """Return it over the classes and the background, which is the second of one class."""
    return closeness_of(class_distribution(detections, belief))


@dataclass(frozen=True)
class Margin:
    """Choose the images whose detections, or which themselves, have two classes of nearly the same probability.

    The parameters are those of detections; an image with one class has one distribution.

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
        """Need detections or class probabilities."""
        return frozenset({Need.PREDICTIONS})

    def select(self, query: Query) -> Selection:
        """Rank by aggregated closeness, largest first."""
        closeness = partial(detection_closeness, belief=self.belief)
        return select_uncertain(query, closeness, closeness_of, self.aggregation, self.score_threshold)
