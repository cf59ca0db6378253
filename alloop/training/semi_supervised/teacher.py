"""The teacher: the average of the student's weights, which labels unlabeled images while the student trains.

Two published styles:

    Soft Teacher      Xu et al., ICCV 2021: pseudo-boxes by three criteria, one for each loss; regions without a
                      pseudo-box are weighted by the teacher's probability of the background
    Unbiased Teacher  Liu et al., ICLR 2021: one hard threshold, focal loss, no box regression without labels
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from alloop.config.training import SemiSupervisedConfig
from alloop.detectors.protocol import CachedFeatures, Image, LastLayerDetector
from alloop.detectors.region_protocol import CachedRegions, PseudoBoxes
from alloop.training.semi_supervised.class_thresholds import class_thresholds, updated_confidence
from alloop.training.semi_supervised.pseudo_labels import INITIAL, box_variance, filtered_boxes


@dataclass(frozen=True, slots=True)
class Style:
    """What distinguishes the published styles.

    Attributes:
        threshold: default score of a pseudo-box.
        uses_regions: whether regions are weighted and regressed one by one, which takes two stages; otherwise only
            the classification terms of the detector's own losses are trained on pseudo-labels.
        focal: exponent of the focal loss that classifies regions; None for the detector's own loss.
    """

    threshold: float
    uses_regions: bool
    focal: float | None


STYLES = {
    "soft_teacher": Style(threshold=0.9, uses_regions=True, focal=None),
    "unbiased_teacher": Style(threshold=0.7, uses_regions=False, focal=1.5),
}


class Teacher:
    """A detector with averaged weights, and the running confidence of its detections by class.

    Attributes:
        style: of the config.
        confidence: `[classes]`, running mean of the scores.
        seen: `[classes]`, number of detections in it.
    """

    def __init__(
        self, detector: LastLayerDetector, config: SemiSupervisedConfig, *, classes: int, device: torch.device
    ) -> None:
        self._detector = detector
        self._config = config
        self.style = STYLES[config.style]
        self._base = config.threshold or self.style.threshold
        self.confidence = torch.zeros(classes, device=device)
        self.seen = torch.zeros(classes, dtype=torch.int64, device=device)

    def follow(self, averaged: Mapping[str, Tensor]) -> None:
        """Use these tensors as weights from now on, whatever values they take."""
        module = self._detector.module
        module.load_state_dict(averaged, assign=True)
        module.requires_grad_(requires_grad=False).eval()

    def features(self, images: list[Image]) -> CachedFeatures:
        """Return the features of images, from which detections and classified regions are computed."""
        features = self._detector.cached_features(images)
        assert isinstance(features, CachedFeatures)  # of a detector
        return features

    def base_thresholds(self) -> Float[Tensor, " k"]:
        """Return the score above which a detection is a pseudo-box, the same for each class."""
        return torch.full_like(self.confidence, self._base)

    def class_thresholds(self, weights: Float[Tensor, " k"] | None) -> Float[Tensor, " k"]:
        """Return the score above which a detection is a pseudo-box by GbT; `weights` are those of GbR or None."""
        return class_thresholds(self.confidence, weights, self._base)

    @torch.no_grad()
    def pseudo_boxes(self, features: CachedFeatures, thresholds: Tensor) -> list[PseudoBoxes]:
        """Return the pseudo-boxes of each image, and update the running confidence by its detections."""
        detections = features.detections()
        scores = torch.cat([d["scores"] for d in detections]).float()
        labels = torch.cat([d["labels"] for d in detections])
        self.confidence, self.seen = updated_confidence(
            self.confidence, self.seen, scores, labels, self._config.momentum
        )
        variances: list[Tensor | None] = [None] * len(detections)
        if self.style.uses_regions:
            variances = [*self._variances(regions_of(features), detections)]
        return [
            filtered_boxes(d, variance, thresholds, self._base, self._config.variance)
            for d, variance in zip(detections, variances, strict=True)
        ]

    def _variances(self, regions: CachedRegions, detections: list[dict[str, Tensor]]) -> list[Tensor]:
        """Return the variance of those boxes of each image whose score is above `INITIAL`."""

        def refine(boxes: list[Tensor], labels: list[Tensor]) -> list[Tensor]:
            refined = [by_class for _, by_class in regions.classified_regions(boxes)]  # [n, k, 4] of each image
            return [r[torch.arange(len(y), device=y.device), y] for r, y in zip(refined, labels, strict=True)]

        candidates = [d["scores"] > INITIAL for d in detections]
        boxes = [d["boxes"][c] for d, c in zip(detections, candidates, strict=True)]
        labels = [d["labels"][c] for d, c in zip(detections, candidates, strict=True)]
        return box_variance(refine, boxes, labels, self._config.jitters, self._config.jitter_scale)


def regions_of(features: CachedFeatures) -> CachedRegions:
    """Return the features of a detector that classifies regions; raise TypeError for those of another."""
    if not isinstance(features, CachedRegions):
        msg = f"expected features of a two-stage detector (CachedRegions), found {type(features).__name__}"
        raise TypeError(msg)
    return features
