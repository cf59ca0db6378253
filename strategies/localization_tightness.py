"""Localization tightness (Kao et al. 2018): how far a two-stage detector had to move its proposals.

T(j) = IoU(box j, the proposal that it was regressed from)
J(j) = |T(j) + P_max(j) - 1|        small: confident but loose, or tight but not confident
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
from strategies.streaming import stream_detections


def contradiction(detections: Detections) -> float:
    """Return T_I of one image.

    Raises:
        StrategyError: detections without proposals.
    """
    if detections.proposals is None:
        msg = "localization_tightness: these detections have no proposals; it needs a two-stage detector"
        raise StrategyError(msg)
    if not len(detections):
        return 1.0
    tightness = paired_iou(detections.boxes, detections.proposals)
    return float(np.abs(tightness + confidence(detections) - 1).min())


@dataclass(frozen=True)
class LocalizationTightness:
    """Choose the images with a box whose tightness contradicts its confidence most. Two-stage detectors only."""

    source: ClassVar[str] = "Kao et al. 2018"

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections with the proposals that they were regressed from."""
        return frozenset({Need.DETECTIONS, Need.PROPOSALS})

    def select(self, query: Query) -> Selection:
        """Rank by T_I, smallest first."""
        image_ids = sorted(query.unlabeled)
        stream = stream_detections(query, image_ids)
        return query.top(image_ids, np.array([-contradiction(detections) for _, detections in stream]))
