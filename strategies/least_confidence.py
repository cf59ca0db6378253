"""Least confidence: u = 1 - max_k p_k (Lewis and Gale 1994; Settles 2009, section 2.2.1)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, select_uncertain


def doubt_of(p: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " n"]:
    """Return 1 - max_k p_k of each row."""
    doubt: np.ndarray = 1.0 - p.max(axis=1, initial=0.0)
    return doubt


def detection_doubt(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """Return 1 - max_k p_k over the foreground classes, or 1 - score."""
    confidence = detections.scores[:, None] if belief == "score" else detections.probabilities
    return doubt_of(confidence.astype(np.float64))


@dataclass(frozen=True)
class LeastConfidence:
    """Choose the images whose detections, or whose class, are least confident.

    The parameters are those of detections; an image with one class has one distribution.

    The least, mean and max confidence of ISAL's released code are the aggregations max, mean and min with belief
    `score`.

    Attributes:
        aggregation: `max`, `min`, `mean` or `sum` over the detections of an image.
        score_threshold: detections of a lower score are left out.
        belief: confidence is the largest class probability of the `posterior`, or the detection's `score`.
    """

    aggregation: Aggregation = "max"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    source: ClassVar[str] = "Lewis and Gale 1994"

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections or class probabilities."""
        return frozenset({Need.PREDICTIONS})

    def select(self, query: Query) -> Selection:
        """Rank by aggregated u, largest first."""
        doubt = partial(detection_doubt, belief=self.belief)
        return select_uncertain(query, doubt, doubt_of, self.aggregation, self.score_threshold)
