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

_CHUNK = 512  # images whose detections at all noise levels are held at a time


def confidence(found: Detections) -> Float64[np.ndarray, " n"]:
    """P_j: the largest class probability of a two-stage detector's region, the score of a one-stage detector."""
    if found.proposals is None or not len(found):
        return found.scores.astype(np.float64)
    largest: np.ndarray = found.probabilities.astype(np.float64).max(axis=1)
    return largest


def most_confident(found: Detections, limit: int | None) -> Detections:
    """The first `limit` detections: they come most confident first."""
    if limit is None or len(found) <= limit:
        return found
    proposals = None if found.proposals is None else found.proposals[:limit]
    return Detections(
        found.boxes[:limit],
        found.scores[:limit],
        found.labels[:limit],
        found.probabilities[:limit],
        proposals=proposals,
    )


def stability(clean: Detections, noisy: Sequence[Detections]) -> float:
    """S_I of one image.

    Args:
        clean: at least one detection.
        noisy: the detections at each noise level.
    """
    overlaps = [
        pairwise_iou(clean.boxes, level.boxes).max(axis=1) if len(level) else np.zeros(len(clean)) for level in noisy
    ]
    of_box = np.mean(overlaps, axis=0)
    weights = confidence(clean)
    return float((weights * of_box).sum() / weights.sum())


@dataclass(frozen=True)
class LocalizationStability:
    """Images whose boxes are least stable under noise.

    Attributes:
        sigmas: deviation of the noise at each level, in steps of 0..255.
        with_confidence: LS+C, which adds the doubt about the least confident box.
        weight: of the stability in LS+C.
        max_boxes: only so many of the most confident boxes are followed; None for all.
    """

    sigmas: tuple[float, ...] = (8.0, 16.0, 24.0, 32.0, 40.0, 48.0)
    with_confidence: bool = False
    weight: float = 1.0
    max_boxes: int | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.NOISY_DETECTIONS})
    source: ClassVar[str] = "Kao et al. 2018"

    def __post_init__(self) -> None:
        """Raise ValueError without a noise level, or with one that is not a positive number."""
        if not self.sigmas or any(not 0 <= sigma < np.inf for sigma in self.sigmas):
            raise ValueError(f"sigmas: expected one or more deviations of 0 or more, found {list(self.sigmas)}")
        if self.max_boxes is not None and self.max_boxes < 1:
            raise ValueError(f"max_boxes: expected 1 or more, found {self.max_boxes}")

    def select(self, query: Query) -> Selection:
        """Least stable first; an image without detections comes last, in random order."""
        ids = sorted(query.unlabeled)
        utilities, scored = np.zeros(len(ids)), np.zeros(len(ids), dtype=np.bool_)
        for row, (clean, noisy) in enumerate(self.seen(query, ids)):
            scored[row] = len(clean) > 0
            if scored[row]:
                utilities[row] = self.utility(clean, noisy)
        return query.top(ids, utilities, scored=scored)

    def utility(self, clean: Detections, noisy: Sequence[Detections]) -> float:
        """-S_I, or U_C - weight S_I."""
        unstable = -stability(clean, noisy)
        return float((1 - confidence(clean)).max()) + self.weight * unstable if self.with_confidence else unstable

    def seen(self, query: Query, ids: Sequence[ImageId]) -> Iterator[tuple[Detections, list[Detections]]]:
        """Clean detections and those at each level, image by image."""
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            clean = query.detector.detections(chunk)
            levels = [query.detector.noisy_detections(chunk, sigma, query.random_seed) for sigma in self.sigmas]
            for row, found in enumerate(clean):
                yield most_confident(found, self.max_boxes), [level[row] for level in levels]
