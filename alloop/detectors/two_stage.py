"""Faster R-CNN (Ren et al. 2015) and Mask R-CNN (He et al. 2017) on torchvision, with losses split by image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss, softmax
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import MultiScaleRoIAlign, batched_nms, clip_boxes_to_image, remove_small_boxes

from alloop.config import DetectorConfig
from alloop.detectors.backbones import Pyramid, build_backbone
from alloop.detectors.protocol import Detector, Target
from alloop.detectors.torchvision_parts import (
    NormalizeOnly,
    batch_of,
    evaluating,
    one_based,
    pool_regions,
    pooled_levels,
    summed_by_image,
)
from alloop.query import Need

TWO_STAGE_GIVES = frozenset({Need.EMBEDDINGS, Need.DETECTIONS, Need.IMAGE_LOSSES, Need.REGION_FEATURES})
SMOOTH = 1 / 9  # beta of the smooth L1 loss, as in torchvision


class PerImageRPN(RegionProposalNetwork):  # type: ignore[misc]
    """The region proposal network whose losses come as one number an image."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: Sequence[Tensor],
        regression_targets: Sequence[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Objectness and box loss, each `[batch]`, divided by the samples of the whole batch."""
        positive, negative = self.fg_bg_sampler(labels)
        positive, negative = torch.stack(positive).bool(), torch.stack(negative).bool()  # [b, a]
        image, place = torch.where(positive | negative)
        samples = max(1, len(image))
        entropy = binary_cross_entropy_with_logits(
            objectness.reshape(positive.shape)[image, place], torch.stack(list(labels))[image, place], reduction="none"
        )
        hit, anchor = torch.where(positive)
        deltas = pred_bbox_deltas.reshape(*positive.shape, 4)[hit, anchor]
        distance = smooth_l1_loss(
            deltas, torch.stack(list(regression_targets))[hit, anchor], beta=SMOOTH, reduction="none"
        ).sum(dim=1)
        return (
            summed_by_image(entropy, image, len(labels)) / samples,
            summed_by_image(distance, hit, len(labels)) / samples,
        )


class PerImageRoIHeads(RoIHeads):  # type: ignore[misc]
    """The second stage: losses as one number an image, detections with their class posterior."""

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """Detections in eval mode, losses in train mode."""
        if self.training:
            return [], self._losses(features, proposals, image_shapes, targets or [])
        return self._detections(features, proposals, image_shapes), {}

    def _losses(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        proposals, matched, labels, goals = self.select_training_samples(proposals, targets)
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, shapes)))
        of_image = _image_rows(proposals)  # [r]
        label, goal = torch.cat(labels), torch.cat(list(goals))
        hit = torch.where(label > 0)[0]
        distance = smooth_l1_loss(
            deltas.reshape(len(label), -1, 4)[hit, label[hit]], goal[hit], beta=SMOOTH, reduction="none"
        ).sum(dim=1)
        images, samples = len(proposals), max(1, len(label))
        entropy = cross_entropy(logits, label, reduction="none")
        losses = {
            "loss_classifier": summed_by_image(entropy, of_image, images) / samples,
            "loss_box_reg": summed_by_image(distance, of_image[hit], images) / samples,
        }
        if self.has_mask():
            losses["loss_mask"] = self._mask_loss(features, proposals, shapes, targets, labels, matched)
        return losses

    def _mask_loss(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]],
        labels: Sequence[Tensor],
        matched: Sequence[Tensor],
    ) -> Tensor:
        """Pixel cross entropy of the true class's mask on positive proposals, divided by all of their pixels."""
        rows = [torch.where(label > 0)[0] for label in labels]
        boxes = [box[row] for box, row in zip(proposals, rows, strict=True)]
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, shapes)))  # [p, k, m, m]
        if not len(logits):
            nothing: Tensor = logits.sum() * 0 + logits.new_zeros(len(boxes))
            return nothing
        truth = torch.cat(
            [
                project_masks_on_boxes(target["masks"], box, match[row], logits.shape[-1])
                for target, box, match, row in zip(targets, boxes, matched, rows, strict=True)
                if len(row)
            ]
        )
        label = torch.cat([label[row] for label, row in zip(labels, rows, strict=True)])
        own = logits[torch.arange(len(label), device=label.device), label]
        per_mask = binary_cross_entropy_with_logits(own, truth, reduction="none").mean(dim=(1, 2))
        return summed_by_image(per_mask, _image_rows(boxes), len(boxes)) / len(label)

    def _detections(
        self, features: dict[str, Tensor], proposals: Sequence[Tensor], shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, shapes)))
        counts = [len(boxes) for boxes in proposals]
        decoded = self.box_coder.decode(deltas, proposals).split(counts)
        posterior = torch.split(softmax(logits, dim=-1), counts)
        found = [self._cut(*part) for part in zip(decoded, posterior, shapes, strict=True)]
        if self.has_mask():
            pooled = self.mask_roi_pool(features, [f["boxes"] for f in found], shapes)
            masks = maskrcnn_inference(self.mask_predictor(self.mask_head(pooled)), [f["labels"] for f in found])
            for result, mask in zip(found, masks, strict=True):
                result["masks"] = mask
        return found

    def _cut(self, boxes: Tensor, posterior: Tensor, shape: tuple[int, int]) -> dict[str, Tensor]:
        """The same cut, order and suppression as torchvision's own, keeping each proposal's posterior."""
        foreground = posterior[:, 1:]  # [r, k]
        row, label = torch.where(foreground > self.score_thresh)
        scores = foreground[row, label]
        boxes = clip_boxes_to_image(boxes[row, label + 1], shape)
        wide = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, label, row = boxes[wide], scores[wide], label[wide], row[wide]
        keep = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
        return {
            "boxes": boxes[keep],
            "scores": scores[keep],
            "labels": label[keep] + 1,
            "probabilities": foreground[row[keep]],
        }


def _image_rows(boxes: Sequence[Tensor]) -> Tensor:
    """For each box of a batch, the row of its image."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)


class TwoStageDetector:
    """A torchvision Faster R-CNN or Mask R-CNN behind the detector protocol."""

    def __init__(self, module: nn.Module, pyramid: Pyramid, gives: frozenset[Need]) -> None:
        """Take over a built model and make its parts speak per image."""
        self.module: Any = module
        self.levels = tuple(level for level in pyramid.levels if level != "pool")
        self.gives = gives

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Each loss term split by image; anchors and proposals are sampled from torch's generator."""
        result: dict[str, Tensor] = self.module(images, one_based(targets))
        return result

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections after non-maximum suppression; masks are uint8 at image size."""
        with evaluating(self.module):
            found: list[dict[str, Tensor]] = self.module(images)
        for result in found:
            result["labels"] = result["labels"] - 1
            if "masks" in result:
                result["masks"] = (result["masks"][:, 0] > 0.5).to(torch.uint8)
        return found

    def embed(self, images: list[Tensor]) -> Tensor:
        """Mean over height and width of each pyramid level fed to the second stage, concatenated."""
        with evaluating(self.module):
            _, features = batch_of(self.module, images)
        pooled = pooled_levels([features[level] for level in self.levels])  # [levels, n, c]
        return pooled.transpose(0, 1).flatten(1)

    def region_features(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """RoIAlign over the pyramid, averaged."""
        return pool_regions(self.module, self.levels, images, boxes)


def _build(config: DetectorConfig, classes: int, *, masks: bool) -> Detector:
    pyramid = build_backbone(config.backbone, config.weights, config.channels, config.trainable_stages, two_stage=True)
    sides = [config.anchor_size * stride / pyramid.strides[0] for stride in pyramid.strides]
    one_level = len(sides) == 1
    sizes = tuple(tuple(int(s * k) for k in (1, 2, 3)) if one_level else (int(s),) for s in sides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    fine = [level for level in pyramid.levels if level != "pool"]
    pool = MultiScaleRoIAlign(featmap_names=fine, output_size=7, sampling_ratio=2)
    model = (MaskRCNN if masks else FasterRCNN)(
        pyramid.module,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=TwoMLPHead(config.channels * 49, config.head_width),
        box_predictor=FastRCNNPredictor(config.head_width, classes + 1),
        rpn_pre_nms_top_n_train=2 * config.proposals,
        rpn_pre_nms_top_n_test=config.proposals,
        rpn_post_nms_top_n_train=config.proposals,
        rpn_post_nms_top_n_test=config.proposals,
        rpn_batch_size_per_image=min(256, config.proposals),
        box_batch_size_per_image=config.sampled_regions,
        box_score_thresh=config.score_threshold,
        box_nms_thresh=config.nms_threshold,
        box_detections_per_img=config.max_detections,
        **({"mask_roi_pool": MultiScaleRoIAlign(fine, 14, 2), "num_classes": None} if masks else {}),
        **({"mask_predictor": MaskRCNNPredictor(256, 256, classes + 1)} if masks else {}),
    )
    model.transform = NormalizeOnly()
    # torchvision builds these two inside its constructor; ours have the same fields and other losses
    model.rpn.__class__ = PerImageRPN
    model.roi_heads.__class__ = PerImageRoIHeads
    return TwoStageDetector(model, pyramid, TWO_STAGE_GIVES | ({Need.MASKS} if masks else set()))


def faster_rcnn(config: DetectorConfig, classes: int) -> Detector:
    """Faster R-CNN over a feature pyramid."""
    return _build(config, classes, masks=False)


def mask_rcnn(config: DetectorConfig, classes: int) -> Detector:
    """Mask R-CNN over a feature pyramid."""
    return _build(config, classes, masks=True)
