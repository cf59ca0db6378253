"""FCOS (Tian et al. 2019) and RetinaNet (Lin et al. 2017) on torchvision, with losses split by image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS, FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from alloop.config import DetectorConfig
from alloop.detectors.backbones import Pyramid, build_backbone
from alloop.detectors.protocol import Detector, Target
from alloop.detectors.torchvision_parts import (
    NormalizeOnly,
    captured,
    dense_detections,
    evaluating,
    pool_regions,
    pooled_levels,
    summed_by_image,
)
from alloop.query import Need

ONE_STAGE_GIVES = frozenset({Need.EMBEDDINGS, Need.DETECTIONS, Need.IMAGE_LOSSES, Need.REGION_FEATURES})


class PerImageFCOSHead(FCOSHead):  # type: ignore[misc]
    """The FCOS head with a choice of tower depth, whose losses come as one number an image."""

    def __init__(self, channels: int, classes: int, tower_convs: int) -> None:
        super().__init__(channels, 1, classes, 1)
        self.classification_head = FCOSClassificationHead(channels, 1, classes, tower_convs)
        self.regression_head = FCOSRegressionHead(channels, 1, tower_convs)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Focal, GIoU and centerness loss, each `[batch]`, divided by the foreground of the whole batch."""
        logits = head_outputs["cls_logits"]  # [b, a, k]
        matched = torch.stack(matched_idxs)  # [b, a], -1 is background
        image, place = torch.where(matched >= 0)  # [f], [f]
        counts = [len(target["labels"]) for target in targets]
        first = torch.tensor([0, *counts[:-1]], device=matched.device).cumsum(0)
        truth = first[image] + matched[image, place]  # [f], row among all boxes of the batch
        true_boxes = torch.cat([target["boxes"] for target in targets])[truth]
        true_labels = torch.cat([target["labels"] for target in targets])[truth]
        flat_anchors = torch.stack(anchors)[image, place]  # [f, 4]
        foreground = max(1, len(image))

        one_hot = torch.zeros_like(logits)
        one_hot[image, place, true_labels] = 1.0
        classification = sigmoid_focal_loss(logits, one_hot).sum(dim=(1, 2))

        reached = head_outputs["bbox_regression"][image, place].to(flat_anchors.dtype)
        boxes = self.box_coder.decode(reached, flat_anchors)
        per_place_giou = generalized_box_iou_loss(boxes, true_boxes)

        reach = self.box_coder.encode(flat_anchors, true_boxes)  # [f, 4] left, top, right, bottom
        left_right, top_bottom = reach[:, [0, 2]], reach[:, [1, 3]]
        centerness = torch.sqrt((left_right.amin(1) / left_right.amax(1)) * (top_bottom.amin(1) / top_bottom.amax(1)))
        per_place_centerness = binary_cross_entropy_with_logits(
            head_outputs["bbox_ctrness"][image, place, 0], centerness, reduction="none"
        )
        return {
            "classification": classification / foreground,
            "bbox_regression": summed_by_image(per_place_giou, image, len(targets)) / foreground,
            "bbox_ctrness": summed_by_image(per_place_centerness, image, len(targets)) / foreground,
        }


class PosteriorFCOS(FCOS):  # type: ignore[misc]
    """FCOS whose detections carry the class posterior `sigmoid(logit)` of their place."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Score is `sqrt(class probability x centerness)`, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            centerness = [torch.sigmoid(level[index]) for level in head_outputs["bbox_ctrness"]]
            scores = [torch.sqrt(p * c) for p, c in zip(probabilities, centerness, strict=True)]
            boxes = [
                self.box_coder.decode(level[index], places)
                for level, places in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(dense_detections(scores, probabilities, boxes, size, self))
        return detections


class PerImageRetinaNetHead(RetinaNetHead):  # type: ignore[misc]
    """The RetinaNet head whose losses come as one number an image: torchvision averages over images."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Focal and box loss, each `[batch]`, divided by the number of images."""
        rows = [
            super(PerImageRetinaNetHead, self).compute_loss(
                [target],
                {key: value[i : i + 1] for key, value in head_outputs.items()},
                [anchors[i]],
                [matched_idxs[i]],
            )
            for i, target in enumerate(targets)
        ]
        return {key: torch.stack([row[key] for row in rows]) / len(targets) for key in rows[0]}


class PosteriorRetinaNet(RetinaNet):  # type: ignore[misc]
    """RetinaNet whose detections carry the class posterior `sigmoid(logit)` of their anchor."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Score is the class probability, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            boxes = [
                self.box_coder.decode_single(level[index], places)
                for level, places in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(dense_detections(probabilities, probabilities, boxes, size, self))
        return detections


class OneStageDetector:
    """A torchvision FCOS or RetinaNet behind the detector protocol."""

    gives = ONE_STAGE_GIVES

    def __init__(self, module: nn.Module, pyramid: Pyramid) -> None:
        """Take over a built model."""
        self.module: Any = module
        self.levels = pyramid.levels

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Each loss term split by image."""
        result: dict[str, Tensor] = self.module(images, [dict(target) for target in targets])
        return result

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections after non-maximum suppression."""
        with evaluating(self.module):
            result: list[dict[str, Tensor]] = self.module(images)
        return result

    def embed(self, images: list[Tensor]) -> Tensor:
        """Pooled output of the last convolution of both towers, mean over levels, classification first.

        Source: ISAL supplement section 4.2 (FCOS features for k-center).
        """
        towers = (self.module.head.classification_head.conv, self.module.head.regression_head.conv)
        with evaluating(self.module), captured(*towers) as outputs:
            batch, _ = self.module.transform(images)
            self.module.head(list(self.module.backbone(batch.tensors).values()))
        return torch.cat([pooled_levels(levels).mean(dim=0) for levels in outputs], dim=1)

    def region_features(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """RoIAlign over the pyramid, averaged."""
        return pool_regions(self.module, self.levels, images, boxes)


def _thresholds(config: DetectorConfig) -> dict[str, Any]:
    return {
        "score_thresh": config.score_threshold,
        "nms_thresh": config.nms_threshold,
        "detections_per_img": config.max_detections,
        "topk_candidates": 1000,
    }


def fcos(config: DetectorConfig, classes: int) -> Detector:
    """FCOS with one place a pixel; level bounds follow from the strides."""
    pyramid = build_backbone(config.backbone, config.weights, config.channels, config.trainable_stages, two_stage=False)
    places = AnchorGenerator(tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides))
    head = PerImageFCOSHead(config.channels, classes, config.tower_convs)
    model = PosteriorFCOS(pyramid.module, classes, anchor_generator=places, head=head, **_thresholds(config))
    model.transform = NormalizeOnly()
    return OneStageDetector(model, pyramid)


def retinanet(config: DetectorConfig, classes: int) -> Detector:
    """RetinaNet with three scales and three ratios a place."""
    pyramid = build_backbone(config.backbone, config.weights, config.channels, config.trainable_stages, two_stage=False)
    sides = [config.anchor_size * stride / pyramid.strides[0] for stride in pyramid.strides]
    sizes = tuple(tuple(int(side * 2 ** (k / 3)) for k in range(3)) for side in sides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = PerImageRetinaNetHead(config.channels, anchors.num_anchors_per_location()[0], classes)
    model = PosteriorRetinaNet(pyramid.module, classes, anchor_generator=anchors, head=head, **_thresholds(config))
    model.transform = NormalizeOnly()
    return OneStageDetector(model, pyramid)
