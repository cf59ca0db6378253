"""Losses of detectors that predict at every place, FCOS and RetinaNet, split by image."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from alloop.detectors.torchvision.parts import LossSums, of_labels, rows_by_image, summed_by_image


class Assigned(NamedTuple):
    """What every place shall say, and what the places `[f]` that were matched to a box shall say besides."""

    classes: Tensor  # [b, a, k], the probability of each class: 0 or 1 unless the targets carry posteriors
    believed: bool  # the targets carry posteriors
    own: bool  # the boxes are the detector's own
    told: Tensor  # [b, a], places between object and background are False and say nothing
    image: Tensor  # [f]
    place: Tensor  # [f]
    anchors: Tensor  # [f, 4]
    boxes: Tensor  # [f, 4]
    belief: Tensor  # [f], how far the box is believed: 1 unless the targets carry posteriors
    foreground: Tensor  # [b], matched places of each image


def assigned(
    targets: Sequence[Mapping[str, Any]], matched: Sequence[Tensor], anchors: Sequence[Tensor], classes: int
) -> Assigned:
    """Gather what the places shall say.

    Args:
        targets: `boxes`, `labels` and perhaps `posteriors` of each image.
        matched: for each image and place a row of its boxes, -1 for background, -2 for neither.
        anchors: for each image the boxes of its places.
        classes: number of classes.
    """
    rows_of = torch.stack(list(matched))  # [b, a]
    image, place = torch.where(rows_of >= 0)
    counts = [len(target["labels"]) for target in targets]
    first = torch.tensor([0, *counts[:-1]], device=rows_of.device).cumsum(0)
    row = first[image] + rows_of[image, place]  # among all boxes of the batch
    labels = torch.cat([target["labels"] for target in targets])
    posteriors = torch.cat([target.get("posteriors", _one_hot(target["labels"], classes)) for target in targets])
    goal = torch.zeros((*rows_of.shape, classes), device=rows_of.device)
    goal[image, place] = posteriors[row].to(goal.dtype)
    return Assigned(
        classes=goal,
        believed=any("posteriors" in target for target in targets),
        own=any(bool(target.get("own")) for target in targets),
        told=rows_of >= -1,
        image=image,
        place=place,
        anchors=torch.stack(list(anchors))[image, place],
        boxes=torch.cat([target["boxes"] for target in targets])[row],
        belief=of_labels(posteriors, labels)[row],
        foreground=rows_by_image(image, len(targets)),
    )


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def unsettled(said: Tensor, goal: Tensor, goals: Assigned, tolerance: float) -> Tensor:
    """What was said, without slope in the coordinates where the detector's own boxes are what it says."""
    if not goals.own:
        return said
    return torch.where((said - goal).abs() < tolerance, goal.to(said.dtype), said)


def focal_by_place(logits: Tensor, goals: Assigned) -> Tensor:
    """Focal loss `[b, a, k]`; its expectation where the classes of a place are probabilities."""
    goal = goals.classes.to(logits.dtype)
    if not goals.believed:
        loss: Tensor = sigmoid_focal_loss(logits, goal)
        return loss
    yes, no = sigmoid_focal_loss(logits, torch.ones_like(goal)), sigmoid_focal_loss(logits, torch.zeros_like(goal))
    expected: Tensor = goal * yes + (1 - goal) * no
    return expected


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
    ) -> Any:
        """The shares of the losses; without outputs, what the places are assigned."""
        goals = assigned(targets, matched_idxs, anchors, self.classification_head.num_classes)
        return self.shares(head_outputs, goals) if head_outputs else goals

    def shares(self, outputs: Mapping[str, Tensor], goals: Assigned) -> dict[str, LossSums]:
        """Focal, GIoU and centerness loss; the samples are the foreground places."""
        images, (image, place) = len(goals.foreground), (goals.image, goals.place)
        classification = focal_by_place(outputs["cls_logits"], goals).sum(dim=(1, 2))

        reached = outputs["bbox_regression"][image, place].to(goals.anchors.dtype)
        boxes = self.box_coder.decode(reached, goals.anchors)
        boxes = unsettled(boxes, goals.boxes, goals, tolerance=0.05)  # pixels
        giou = generalized_box_iou_loss(boxes, goals.boxes) * goals.belief

        reach = self.box_coder.encode(goals.anchors, goals.boxes)  # [f, 4] left, top, right, bottom
        left_right, top_bottom = reach[:, [0, 2]], reach[:, [1, 3]]
        goal = torch.sqrt((left_right.amin(1) / left_right.amax(1)) * (top_bottom.amin(1) / top_bottom.amax(1)))
        said = outputs["bbox_ctrness"][image, place, 0]
        centerness = binary_cross_entropy_with_logits(said, goal, reduction="none") * goals.belief
        return {
            "classification": LossSums(classification, goals.foreground),
            "bbox_regression": LossSums(summed_by_image(giou, image, images), goals.foreground),
            "bbox_ctrness": LossSums(summed_by_image(centerness, image, images), goals.foreground),
        }


class PerImageRetinaNetHead(RetinaNetHead):  # type: ignore[misc]
    """The RetinaNet head whose losses come as one number an image."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> Any:
        """The shares of the losses; without outputs, what the places are assigned."""
        goals = assigned(targets, matched_idxs, anchors, self.classification_head.num_classes)
        return self.shares(head_outputs, goals) if head_outputs else goals

    def shares(self, outputs: Mapping[str, Tensor], goals: Assigned) -> dict[str, LossSums]:
        """Focal and L1 loss, each divided by the foreground of its image: the samples are the images themselves."""
        foreground = goals.foreground.clamp(min=1)
        focal = (focal_by_place(outputs["cls_logits"], goals) * goals.told[..., None]).sum(dim=(1, 2))
        deltas = outputs["bbox_regression"][goals.image, goals.place]
        goal = self.regression_head.box_coder.encode_single(goals.boxes, goals.anchors)
        deltas = unsettled(deltas, goal, goals, tolerance=1e-3)  # of the anchor's side
        distance = l1_loss(deltas, goal, reduction="none").sum(dim=1) * goals.belief
        images = torch.ones_like(foreground)
        return {
            "classification": LossSums(focal / foreground, images),
            "bbox_regression": LossSums(summed_by_image(distance, goals.image, len(images)) / foreground, images),
        }
