"""Least confidence: u = 1 - max_k p_k (Lewis and Gale 1994; Settles 2009, section 2.2.1)."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.box_uncertainty import Aggregation, Belief, select_uncertain


def detection_doubt(detections: Detections, belief: Belief = "posterior") -> Float[np.ndarray, " n"]:
    """1 - max_k p_k over the foreground classes, or 1 - score."""
    certain = detections.scores[:, None] if belief == "score" else detections.probabilities
    doubt: np.ndarray = 1.0 - certain.astype(np.float64).max(axis=1, initial=0.0)
    return doubt


@dataclass(frozen=True)
class LeastConfidence:
    """Images whose detections the detector believes least.

    The least, mean and max confidence of ISAL's released code are the aggregations max, mean and min
    of the doubt, with belief `score`.
    """

    aggregation: Aggregation = "max"
    score_threshold: float = 0.1
    belief: Belief = "posterior"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS})
    source: ClassVar[str] = "Lewis and Gale 1994"

    def select(self, query: Query) -> Selection:
        """Largest aggregated doubt first."""
        doubt = partial(detection_doubt, belief=self.belief)
        return select_uncertain(query, doubt, self.aggregation, self.score_threshold)
