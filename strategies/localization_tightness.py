"""Localization tightness (Kao et al. 2018): how far a two-stage detector had to move its proposals.

T(j) = IoU(box j, the proposal it was regressed from)
J(j) = |T(j) + P_max(j) - 1|        small: confident but loose, or tight but in doubt
T_I  = min_j J(j), 1 without detections; smallest first (LT/C)
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from alloop.errors import StrategyError
from alloop.geometry.boxes import paired_iou
from alloop.query import Need, Query
from alloop.values import Detections, Selection
from strategies.localization_stability import confidence

_CHUNK = 2048  # images whose detections are held at a time


def contradiction(found: Detections) -> float:
    """T_I of one image.

    Raises:
        StrategyError: detections without proposals.
    """
    if found.proposals is None:
        msg = "localization_tightness: these detections have no proposals; it needs a two-stage detector"
        raise StrategyError(msg)
    if not len(found):
        return 1.0
    return float(np.abs(paired_iou(found.boxes, found.proposals) + confidence(found) - 1).min())


@dataclass(frozen=True)
class LocalizationTightness:
    """Images with a box whose fit contradicts its confidence most. Two-stage detectors only."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.PROPOSALS})
    source: ClassVar[str] = "Kao et al. 2018"

    def select(self, query: Query) -> Selection:
        """Smallest T_I first."""
        ids = sorted(query.unlabeled)
        utilities = np.zeros(len(ids))
        for start in range(0, len(ids), _CHUNK):
            for row, found in enumerate(query.detector.detections(ids[start : start + _CHUNK]), start=start):
                utilities[row] = -contradiction(found)
        return query.top(ids, utilities)
