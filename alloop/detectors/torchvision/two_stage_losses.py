"""Losses of the two stages of Faster R-CNN and Mask R-CNN, split by image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork

from alloop.detectors.protocol import PseudoBoxes, RegionLoss
from alloop.detectors.torchvision.loss_sums import LossSums, posterior_of_labels, rows_by_image, summed_by_image
from alloop.detectors.torchvision.region_detections import region_detections
from alloop.detectors.torchvision.region_logits import SOFTMAX, LogitReading

SMOOTH = 1 / 9  # beta of the smooth L1 loss, as in torchvision
Targets = Sequence[dict[str, Tensor]]


class AnchorTargets(NamedTuple):
    """Targets of the sampled anchors of a batch."""

    positive: Tensor  # bool [b, a]
    negative: Tensor  # bool [b, a]
    objects: Tensor  # [b, a], probability of an object: 0 or 1 unless the training targets carry posteriors
    deltas: Tensor  # [b, a, 4]


class PerImageRPN(RegionProposalNetwork):  # type: ignore[misc]
    """The region proposal network whose losses come as one number per image."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: Sequence[Tensor],
        regression_targets: Sequence[Tensor],
    ) -> tuple[LossSums, LossSums]:
        """Return objectness and box loss; the samples are the sampled anchors."""
        positive, negative = self.fg_bg_sampler(labels)
        goals = AnchorTargets(
            torch.stack(positive).bool(),
            torch.stack(negative).bool(),
            self._objects,
            torch.stack(list(regression_targets)),
        )
        return self.loss_sums(objectness, pred_bbox_deltas, goals)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return torchvision's labels and boxes, and keep the probability of an object of each anchor.

        Torchvision calls `compute_loss` next, whose signature has no place for the probabilities.
        """
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        objects = [label.clamp(min=0) for label in labels]
        for image, target in enumerate(targets):
            if "posteriors" in target and len(target["boxes"]):
                quality = self.box_similarity(target["boxes"], anchors[image])
                row = self.proposal_matcher(quality).clamp(min=0)
                probabilities = posterior_of_labels(target["posteriors"], target["labels"] - 1)
                objects[image] = objects[image] * probabilities[row]
        self._objects = torch.stack(objects)
        return labels, boxes

    def loss_sums(self, objectness: Tensor, deltas: Tensor, goals: AnchorTargets) -> tuple[LossSums, LossSums]:
        """Return binary cross entropy and smooth L1 of the sampled anchors, by image."""
        images = len(goals.positive)
        image, anchor = torch.where(goals.positive | goals.negative)
        samples = rows_by_image(image, images)
        logits = objectness.reshape(goals.positive.shape)[image, anchor]
        entropy = binary_cross_entropy_with_logits(logits, goals.objects[image, anchor], reduction="none")
        positive_image, positive = torch.where(goals.positive)
        predicted = deltas.reshape(goals.deltas.shape)[positive_image, positive]
        expected = goals.deltas[positive_image, positive]
        distance = smooth_l1_loss(predicted, expected, beta=SMOOTH, reduction="none").sum(dim=1)
        distance = distance * goals.objects[positive_image, positive]
        return (
            LossSums(summed_by_image(entropy, image, images), samples),
            LossSums(summed_by_image(distance, positive_image, images), samples),
        )

    def anchor_targets(self, anchors: Tensor, target: dict[str, Tensor]) -> AnchorTargets:
        """Match and sample the anchors `[a, 4]` of one image; the sampling draws from torch's generator."""
        labels, boxes = self.assign_targets_to_anchors([anchors], [target])
        deltas = self.box_coder.encode(boxes, [anchors])[0]
        positive, negative = self.fg_bg_sampler(labels)
        return AnchorTargets(positive[0].bool()[None], negative[0].bool()[None], self._objects, deltas[None])


class Regions(NamedTuple):
    """The sampled regions of each image with their targets; label 0 is the background."""

    boxes: list[Tensor]  # [r, 4] per image
    matched: list[Tensor]  # [r], row of the region's box among the image's
    labels: list[Tensor]  # [r]
    deltas: list[Tensor]  # [r, 4]

    @property
    def positive(self) -> list[Tensor]:
        """Rows of each image that belong to an object."""
        return [torch.where(label > 0)[0] for label in self.labels]

    @property
    def positive_boxes(self) -> list[Tensor]:
        """The boxes of those rows."""
        return [box[row] for box, row in zip(self.boxes, self.positive, strict=True)]

    @property
    def positive_labels(self) -> Tensor:
        """The labels of those rows, all images after each other."""
        return torch.cat([label[row] for label, row in zip(self.labels, self.positive, strict=True)])


class PerImageRoIHeads(RoIHeads):  # type: ignore[misc]
    """The second stage: losses as one number per image, detections with their posterior and proposal.

    Attributes:
        region_loss: replaces the loss by which regions are classified; None for that of `reading`.
        reading: how the logits of a region are read.
    """

    region_loss: RegionLoss | None = None
    reading: LogitReading = SOFTMAX

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, LossSums]]:
        """Return detections in eval mode, losses in train mode."""
        if not self.training:
            return region_detections(self, features, proposals, image_shapes), {}
        regions = Regions(*self.select_training_samples(list(proposals), targets or []))
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions.boxes, image_shapes)))
        losses = self.box_loss_sums(logits, deltas, regions, targets or [])
        if self.has_mask():
            pooled = self.mask_roi_pool(features, regions.positive_boxes, image_shapes)
            masks = self.mask_predictor(self.mask_head(pooled))
            losses["loss_mask"] = self.mask_loss_sums(masks, regions, targets or [])
        return [], losses

    def box_loss_sums(self, logits: Tensor, deltas: Tensor, regions: Regions, targets: Targets) -> dict[str, LossSums]:
        """Return cross entropy and smooth L1; the samples are the sampled regions."""
        images, region_image = len(regions.boxes), _image_rows(regions.boxes)  # [r]
        samples = rows_by_image(region_image, images)
        label = torch.cat(regions.labels)
        weights, classes = _region_posteriors(regions, targets, logits.shape[-1])
        if classes is None:
            entropy = self.classification_loss(logits, label, None)
        else:
            entropy = self.reading.losses(logits, classes)
        positive = torch.where(label > 0)[0]
        predicted = deltas.reshape(len(label), -1, 4)[positive, label[positive]]
        expected = torch.cat(regions.deltas)[positive]
        distance = smooth_l1_loss(predicted, expected, beta=SMOOTH, reduction="none").sum(dim=1)
        distances = summed_by_image(distance * weights[positive], region_image[positive], images)
        return {
            "loss_classifier": LossSums(summed_by_image(entropy, region_image, images), samples),
            "loss_box_reg": LossSums(distances, samples),
        }

    def classification_loss(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Return the classification loss of each region times its weight; label 0 is the background."""
        if self.region_loss is not None:
            classes = logits.shape[1]
            return self.region_loss(logits.roll(-1, dims=1), (labels - 1) % classes, weights)
        losses = self.reading.losses(logits, labels)
        return losses if weights is None else losses * weights

    def pseudo_label_loss_sums(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        shapes: list[tuple[int, int]],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, LossSums]:
        """Return the weighted classification loss, and the box regression loss towards reliable pseudo-boxes.

        The regions of both are pooled at once; see `PseudoLabelDetector.pseudo_label_losses` for the arguments.
        """
        objects = [{"boxes": p.boxes, "labels": p.labels + 1} for p in pseudo]
        reliable = [{"boxes": p.reliable, "labels": p.reliable_labels + 1} for p in pseudo]
        classified = Regions(*self.select_training_samples(list(proposals), objects))
        regressed = Regions(*self.select_training_samples(list(proposals), reliable))
        both = [torch.cat(pair) for pair in zip(classified.boxes, regressed.positive_boxes, strict=True)]
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, both, shapes)))
        counts = [(len(a), len(b)) for a, b in zip(classified.boxes, both, strict=True)]
        is_classified = torch.cat([torch.arange(total) < count for count, total in counts])
        weights = torch.where(torch.cat(classified.labels) > 0, 1.0, torch.cat(background(classified.boxes)))
        return {
            "loss_classifier": self._weighted_classification(logits[is_classified], classified, weights),
            "loss_box_reg": self._positive_regression(deltas[~is_classified], regressed, logits.shape[1]),
        }

    def _weighted_classification(self, logits: Tensor, regions: Regions, weights: Tensor) -> LossSums:
        """Return the weighted classification loss; the samples are the sums of the weights."""
        images, region_image = len(regions.boxes), _image_rows(regions.boxes)
        losses = self.classification_loss(logits, torch.cat(regions.labels), weights)
        return LossSums(summed_by_image(losses, region_image, images), summed_by_image(weights, region_image, images))

    def _positive_regression(self, deltas: Tensor, regions: Regions, classes: int) -> LossSums:
        """Return smooth L1 of the positive regions; the samples are all sampled regions."""
        images, labels = len(regions.boxes), regions.positive_labels
        region_image = _image_rows(regions.positive_boxes)
        expected = torch.cat([d[row] for d, row in zip(regions.deltas, regions.positive, strict=True)])
        by_class = deltas.reshape(len(labels), classes, 4)
        predicted = by_class[torch.arange(len(labels), device=labels.device), labels]
        distance = smooth_l1_loss(predicted, expected, beta=SMOOTH, reduction="none").sum(dim=1)
        samples = rows_by_image(_image_rows(regions.boxes), images)
        return LossSums(summed_by_image(distance, region_image, images), samples)

    def mask_loss_sums(self, logits: Tensor, regions: Regions, targets: Targets) -> LossSums:
        """Return the pixel cross entropy of the true class's mask; the samples are the positive regions.

        Args:
            logits: `[p, k + 1, m, m]` of the positive regions.
            regions: the sampled regions.
            targets: with `masks`, one per image.
        """
        boxes = regions.positive_boxes
        region_image = _image_rows(boxes)
        samples = rows_by_image(region_image, len(boxes))
        if not len(logits):
            return LossSums(logits.sum() * 0 + logits.new_zeros(len(boxes)), samples)
        labels = regions.positive_labels
        predicted = logits[torch.arange(len(labels), device=labels.device), labels]
        expected = _region_masks(regions, targets, logits.shape[-1])
        losses = binary_cross_entropy_with_logits(predicted, expected, reduction="none").mean(dim=(1, 2))
        weights, _ = _region_posteriors(regions, targets, logits.shape[1])
        losses = losses * weights[torch.cat(regions.labels) > 0]
        return LossSums(summed_by_image(losses, region_image, len(boxes)), samples)


def _region_masks(regions: Regions, targets: Targets, size: int) -> Tensor:
    """Return the true mask inside each positive region on a grid of `size` by `size`, `[p, m, m]`."""
    parts = zip(targets, regions.positive_boxes, regions.matched, regions.positive, strict=True)
    masks = [
        project_masks_on_boxes(target["masks"], boxes, matched[row], size)
        for target, boxes, matched, row in parts
        if len(row)
    ]
    return torch.cat(masks)


def _region_posteriors(regions: Regions, targets: Targets, classes: int) -> tuple[Tensor, Tensor | None]:
    """Return the probability `[r]` of each region's label and its class probabilities `[r, classes]`.

    Without posteriors in the targets all labels are certain and the class probabilities are None.
    """
    label = torch.cat(regions.labels)
    certain = torch.ones(len(label), dtype=regions.boxes[0].dtype, device=label.device)
    if not any("posteriors" in target for target in targets):
        return certain, None
    weights, rows = certain, torch.nn.functional.one_hot(label, classes).to(targets[0]["boxes"].dtype)
    start = 0
    for target, matched, labels in zip(targets, regions.matched, regions.labels, strict=True):
        positive = torch.where(labels > 0)[0]
        if len(positive):
            posterior = target["posteriors"][matched[positive]]  # [p, k]
            background = 1 - posterior.sum(dim=1, keepdim=True)
            rows[start + positive] = torch.cat([background, posterior], dim=1).clamp(min=0)
            weights[start + positive] = posterior_of_labels(posterior, labels[positive] - 1)
        start += len(labels)
    return weights, rows


def _image_rows(boxes: Sequence[Tensor]) -> Tensor:
    """Return the row of its image for each box of a batch."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
