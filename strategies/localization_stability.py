"""Localization stability (Kao et al. 2018): how far boxes move when noise is added to the image.

S_B(j) = 1/N sum_n max over detections b at noise level n of IoU(B_j, b)      0 at a level without any
S_I    = sum_j P_j S_B(j) / sum_j P_j                                          LS: smallest first
U_C    = max_j (1 - P_j)                                                       LS+C: largest U_C - weight S_I first
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64

from alloop.geometry.boxes import pairwise_iou
from alloop.query import Need, Query
from alloop.values import Detections, ImageId, Selection
from strategies.streaming import chunked, images_at_once


def confidence(detections: Detections) -> Float64[np.ndarray, " n"]:
    """Return P_j: the largest class probability of a two-stage detector's region, a one-stage detector's score."""
    if detections.proposals is None or not len(detections):
        return detections.scores.astype(np.float64)
    largest: np.ndarray = detections.probabilities.astype(np.float64).max(axis=1)
    return largest


def most_confident(detections: Detections, limit: int | None) -> Detections:
    """Return the first `limit` detections: they come most confident first."""
    if limit is None or len(detections) <= limit:
        return detections
    proposals = None if detections.proposals is None else detections.proposals[:limit]
    return Detections(
        detections.boxes[:limit],
        detections.scores[:limit],
        detections.labels[:limit],
        detections.probabilities[:limit],
        proposals=proposals,
    )


def stability(clean: Detections, noisy: Sequence[Detections]) -> float:
    """Return S_I of one image.

    Args:
        clean: at least one detection.
        noisy: the detections at each noise level.
    """
    overlaps = [
        pairwise_iou(clean.boxes, level.boxes).max(axis=1) if len(level) else np.zeros(len(clean)) for level in noisy
    ]
    box_stability = np.mean(overlaps, axis=0)  # [n], S_B
    weights = confidence(clean)
    return float((weights * box_stability).sum() / weights.sum())


@dataclass(frozen=True)
class LocalizationStability:
    """Choose the images whose boxes are least stable under noise.

    Attributes:
        sigmas: standard deviation of the noise at each level, in steps of 0..255.
        with_confidence: LS+C, which adds U_C.
        weight: of the stability in LS+C.
        max_boxes: how many of the most confident boxes are compared; None for all.
    """

    sigmas: tuple[float, ...] = (8.0, 16.0, 24.0, 32.0, 40.0, 48.0)
    with_confidence: bool = False
    weight: float = 1.0
    max_boxes: int | None = None

    source: ClassVar[str] = "Kao et al. 2018"

    def __post_init__(self) -> None:
        """Raise ValueError without a noise level, for a negative or infinite one, and for less than one box."""
        if not self.sigmas or any(not 0 <= sigma < np.inf for sigma in self.sigmas):
            raise ValueError(f"sigmas: expected one or more deviations of 0 or more, found {list(self.sigmas)}")
        if self.max_boxes is not None and self.max_boxes < 1:
            raise ValueError(f"max_boxes: expected 1 or more, found {self.max_boxes}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections, with and without noise."""
        return frozenset({Need.DETECTIONS, Need.NOISY_DETECTIONS})

    def select(self, query: Query) -> Selection:
        """Rank by stability, smallest first; images without detections come last, in random order."""
        image_ids = sorted(query.unlabeled)
        utilities, scored = np.zeros(len(image_ids)), np.zeros(len(image_ids), dtype=np.bool_)
        for row, (clean, noisy) in enumerate(self._detections(query, image_ids)):
            if len(clean):
                scored[row] = True
                utilities[row] = self.utility(clean, noisy)
        return query.top(image_ids, utilities, scored=scored)

    def utility(self, clean: Detections, noisy: Sequence[Detections]) -> float:
        """Return -S_I, or U_C - weight S_I."""
        unstable = -stability(clean, noisy)
        if not self.with_confidence:
            return unstable
        return float((1 - confidence(clean)).max()) + self.weight * unstable

    def _detections(self, query: Query, image_ids: Sequence[ImageId]) -> Iterator[tuple[Detections, list[Detections]]]:
        """Yield for each image its detections without noise and those at each noise level."""
        at_once = max(1, images_at_once(query) // (1 + len(self.sigmas)))
        for chunk in chunked(image_ids, at_once):
            clean = query.detector.detections(chunk)
            levels = [query.detector.noisy_detections(chunk, sigma, query.random_seed) for sigma in self.sigmas]
            for row, detections in enumerate(clean):
                yield most_confident(detections, self.max_boxes), [level[row] for level in levels]
