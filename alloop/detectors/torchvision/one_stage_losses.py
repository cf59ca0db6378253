"""Losses of detectors that predict at every location, FCOS and RetinaNet, split by image."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from alloop.detectors.torchvision.loss_sums import LossSums, posterior_of_labels, rows_by_image, summed_by_image


class LocationTargets(NamedTuple):
    """Classification targets of all locations, and regression targets of the F positive locations of a batch.

    A location of RetinaNet is an anchor; there are A of them per image.
    """

    classes: Tensor  # [b, a, k], probability of each class: 0 or 1 unless the training targets carry posteriors
    has_posteriors: bool
    is_prediction: bool  # the boxes are the detector's own
    valid: Tensor  # [b, a], False for ignored locations, between object and background
    image: Tensor  # [f], row of the image
    location: Tensor  # [f], row of the location in its image
    anchors: Tensor  # [f, 4]
    boxes: Tensor  # [f, 4]
    weights: Tensor  # [f], probability of the box's label: 1 unless the training targets carry posteriors
    positives: Tensor  # [b], number of positive locations of each image


def location_targets(
    targets: Sequence[Mapping[str, Any]], matched: Sequence[Tensor], anchors: Sequence[Tensor], classes: int
) -> LocationTargets:
    """Gather the targets of all locations.

    Args:
        targets: `boxes`, `labels` and perhaps `posteriors` of each image.
        matched: for each image the row of its box for each location `[a]`, -1 for background, -2 for neither.
        anchors: for each image the boxes `[a, 4]` of its locations.
        classes: number of classes.
    """
    matched_rows = torch.stack(list(matched))  # [b, a]
    image, location = torch.where(matched_rows >= 0)
    counts = [len(target["labels"]) for target in targets]
    offsets = torch.tensor([0, *counts[:-1]], device=matched_rows.device).cumsum(0)
    row = offsets[image] + matched_rows[image, location]  # among all boxes of the batch
    labels = torch.cat([target["labels"] for target in targets])
    posteriors = torch.cat([target.get("posteriors", _one_hot(target["labels"], classes)) for target in targets])
    probabilities = torch.zeros((*matched_rows.shape, classes), device=matched_rows.device)
    probabilities[image, location] = posteriors[row].to(probabilities.dtype)
    return LocationTargets(
        classes=probabilities,
        has_posteriors=any("posteriors" in target for target in targets),
        is_prediction=any(bool(target.get("is_prediction")) for target in targets),
        valid=matched_rows >= -1,
        image=image,
        location=location,
        anchors=torch.stack(list(anchors))[image, location],
        boxes=torch.cat([target["boxes"] for target in targets])[row],
        weights=posterior_of_labels(posteriors, labels)[row],
        positives=rows_by_image(image, len(targets)),
    )


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def without_kink(predicted: Tensor, expected: Tensor, goals: LocationTargets, tolerance: float) -> Tensor:
    """Detach the coordinates in which a pseudo-target equals the prediction, since the loss has a kink there."""
    if not goals.is_prediction:
        return predicted
    return torch.where((predicted - expected).abs() < tolerance, expected.to(predicted.dtype), predicted)


def focal_loss_by_location(logits: Tensor, goals: LocationTargets) -> Tensor:
    """Return the focal loss `[b, a, k]`; its expectation where the classes of a location are probabilities."""
    probabilities = goals.classes.to(logits.dtype)
    if not goals.has_posteriors:
        loss: Tensor = sigmoid_focal_loss(logits, probabilities)
        return loss
    positive = sigmoid_focal_loss(logits, torch.ones_like(probabilities))
    negative = sigmoid_focal_loss(logits, torch.zeros_like(probabilities))
    expected: Tensor = probabilities * positive + (1 - probabilities) * negative
    return expected


def _losses_or_targets(
    head: Any,
    targets: Sequence[Mapping[str, Any]],
    head_outputs: Mapping[str, Tensor],
    anchors: Sequence[Tensor],
    matched: Sequence[Tensor],
) -> Any:
    """Return the loss sums of a head; without outputs, the targets of its locations."""
    goals = location_targets(targets, matched, anchors, head.classification_head.num_classes)
    return head.loss_sums(head_outputs, goals) if head_outputs else goals


class PerImageFCOSHead(FCOSHead):  # type: ignore[misc]
    """The FCOS head with a choice of tower depth, whose losses come as one number per image."""

    def __init__(
        self, channels: int, classes: int, tower_convs: int, norm: Callable[[int], nn.Module] | None = None
    ) -> None:
        """Build the towers; `norm` makes the layer behind each convolution, by default a group norm of 32 groups."""
        super().__init__(channels, 1, classes, 1)
        self.classification_head = FCOSClassificationHead(channels, 1, classes, tower_convs, norm_layer=norm)
        self.regression_head = FCOSRegressionHead(channels, 1, tower_convs, norm_layer=norm)

    def box_outputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return distances in strides from the last convolution's output; one `[n, locations, 4]` per level."""
        return [torch.relu(level) for level in levels]

    def centerness_tower(self, class_tower: list[Tensor], box_tower: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """Return the tower that the centerness is predicted from, one map per level."""
        return box_tower

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Any:
        """Return the loss sums; without outputs, the targets of the locations."""
        return _losses_or_targets(self, targets, head_outputs, anchors, matched_idxs)

    def loss_sums(self, outputs: Mapping[str, Tensor], goals: LocationTargets) -> dict[str, LossSums]:
        """Return focal, GIoU and centerness loss; the samples are the positive locations."""
        image, location = goals.image, goals.location
        classification = focal_loss_by_location(outputs["cls_logits"], goals).sum(dim=(1, 2))

        distances = outputs["bbox_regression"][image, location].to(goals.anchors.dtype)
        boxes = self.box_coder.decode(distances, goals.anchors)
        boxes = without_kink(boxes, goals.boxes, goals, tolerance=0.05)  # pixels

        logits = outputs["bbox_ctrness"][image, location, 0]
        expected = self._centerness(goals)
        centerness = binary_cross_entropy_with_logits(logits, expected, reduction="none") * goals.weights
        return {
            "classification": LossSums(classification, self.classification_samples(goals)),
            "bbox_regression": self.box_loss(boxes, expected, goals),
            "bbox_ctrness": LossSums(summed_by_image(centerness, image, len(goals.positives)), goals.positives),
        }

    def classification_samples(self, goals: LocationTargets) -> Tensor:
        """Return what the focal loss of each image is divided by, `[b]`: its positive locations."""
        return goals.positives

    def box_loss(self, boxes: Tensor, centerness: Tensor, goals: LocationTargets) -> LossSums:  # noqa: ARG002
        """Return the GIoU loss of boxes `[f, 4]`; `centerness [f]` is that of their locations in the true boxes."""
        giou = generalized_box_iou_loss(boxes, goals.boxes) * goals.weights
        return LossSums(summed_by_image(giou, goals.image, len(goals.positives)), goals.positives)

    def _centerness(self, goals: LocationTargets) -> Tensor:
        """Return the centerness `[f]` of the positive locations in their boxes (Tian et al. 2019, equation 3)."""
        distances = self.box_coder.encode(goals.anchors, goals.boxes)  # [f, 4] left, top, right, bottom
        left_right, top_bottom = distances[:, [0, 2]], distances[:, [1, 3]]
        horizontal, vertical = (pair.amin(1) / pair.amax(1) for pair in (left_right, top_bottom))
        return torch.sqrt(horizontal * vertical)


class PerImageRetinaNetHead(RetinaNetHead):  # type: ignore[misc]
    """The RetinaNet head whose losses come as one number per image."""

    def box_outputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the deltas, which the last convolution gives as they are; one `[n, anchors, 4]` per level."""
        return list(levels)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Any:
        """Return the loss sums; without outputs, the targets of the anchors."""
        return _losses_or_targets(self, targets, head_outputs, anchors, matched_idxs)

    def loss_sums(self, outputs: Mapping[str, Tensor], goals: LocationTargets) -> dict[str, LossSums]:
        """Return focal and L1 loss, each divided by the positives of its image: the samples are the images."""
        positives = goals.positives.clamp(min=1)
        focal = (focal_loss_by_location(outputs["cls_logits"], goals) * goals.valid[..., None]).sum(dim=(1, 2))
        deltas = outputs["bbox_regression"][goals.image, goals.location]
        expected = self.regression_head.box_coder.encode_single(goals.boxes, goals.anchors)
        deltas = without_kink(deltas, expected, goals, tolerance=1e-3)  # of the anchor's side
        distance = l1_loss(deltas, expected, reduction="none").sum(dim=1) * goals.weights
        images = torch.ones_like(positives)
        return {
            "classification": LossSums(focal / positives, images),
            "bbox_regression": LossSums(summed_by_image(distance, goals.image, len(images)) / positives, images),
        }
