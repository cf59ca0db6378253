"""Losses of detectors that predict at every place, FCOS and RetinaNet, split by image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from alloop.detectors.torchvision_parts import Shares, of_labels, rows_by_image, summed_by_image


class Positives(NamedTuple):
    """The places `[f]` that were matched to a box, and what they shall say."""

    image: Tensor
    place: Tensor
    anchors: Tensor  # [f, 4]
    boxes: Tensor  # [f, 4]
    belief: Tensor  # [f], how far the box is believed: 1 unless the targets carry posteriors
    classes: Tensor  # [f, k], the probability of each class: one-hot unless the targets carry posteriors


def positives(
    targets: Sequence[dict[str, Tensor]], matched: Tensor, anchors: Sequence[Tensor], classes: int
) -> Positives:
    """Gather what the matched places shall say; `matched [b, a]` holds a row of the image's boxes, or less than 0."""
    image, place = torch.where(matched >= 0)
    counts = [len(target["labels"]) for target in targets]
    first = torch.tensor([0, *counts[:-1]], device=matched.device).cumsum(0)
    row = first[image] + matched[image, place]  # among all boxes of the batch
    labels = torch.cat([target["labels"] for target in targets])
    rows = [target.get("posteriors", _one_hot(target["labels"], classes)) for target in targets]
    posteriors = torch.cat(rows)
    return Positives(
        image,
        place,
        torch.stack(list(anchors))[image, place],
        torch.cat([target["boxes"] for target in targets])[row],
        of_labels(posteriors, labels)[row],
        posteriors[row],
    )


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def focal_by_place(logits: Tensor, hit: Positives) -> Tensor:
    """Focal loss `[b, a, k]`; its expectation where the classes of a place are probabilities."""
    goal = torch.zeros(logits.shape, dtype=logits.dtype, device=logits.device)
    goal[hit.image, hit.place] = hit.classes.to(goal.dtype)
    if bool(((hit.classes == 0) | (hit.classes == 1)).all()):
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
    ) -> dict[str, Shares]:
        """Focal, GIoU and centerness loss; the samples are the foreground places."""
        logits = head_outputs["cls_logits"]  # [b, a, k]
        hit = positives(targets, torch.stack(matched_idxs), anchors, logits.shape[-1])
        foreground = rows_by_image(hit.image, len(targets))
        classification = focal_by_place(logits, hit).sum(dim=(1, 2))

        reached = head_outputs["bbox_regression"][hit.image, hit.place].to(hit.anchors.dtype)
        boxes = self.box_coder.decode(reached, hit.anchors)
        giou = generalized_box_iou_loss(boxes, hit.boxes) * hit.belief

        reach = self.box_coder.encode(hit.anchors, hit.boxes)  # [f, 4] left, top, right, bottom
        left_right, top_bottom = reach[:, [0, 2]], reach[:, [1, 3]]
        goal = torch.sqrt((left_right.amin(1) / left_right.amax(1)) * (top_bottom.amin(1) / top_bottom.amax(1)))
        said = head_outputs["bbox_ctrness"][hit.image, hit.place, 0]
        centerness = binary_cross_entropy_with_logits(said, goal, reduction="none") * hit.belief
        return {
            "classification": Shares(classification, foreground),
            "bbox_regression": Shares(summed_by_image(giou, hit.image, len(targets)), foreground),
            "bbox_ctrness": Shares(summed_by_image(centerness, hit.image, len(targets)), foreground),
        }


class PerImageRetinaNetHead(RetinaNetHead):  # type: ignore[misc]
    """The RetinaNet head whose losses come as one number an image."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Shares]:
        """Focal and L1 loss, each divided by the foreground of its image: the samples are the images themselves."""
        logits, matched = head_outputs["cls_logits"], torch.stack(matched_idxs)
        hit = positives(targets, matched, anchors, logits.shape[-1])
        foreground = rows_by_image(hit.image, len(targets)).clamp(min=1)
        told = matched != self.classification_head.BETWEEN_THRESHOLDS  # [b, a]
        focal = (focal_by_place(logits, hit) * told[..., None]).sum(dim=(1, 2))
        deltas = head_outputs["bbox_regression"][hit.image, hit.place]
        goal = self.regression_head.box_coder.encode_single(hit.boxes, hit.anchors)
        distance = l1_loss(deltas, goal, reduction="none").sum(dim=1) * hit.belief
        images = torch.ones_like(foreground)
        return {
            "classification": Shares(focal / foreground, images),
            "bbox_regression": Shares(summed_by_image(distance, hit.image, len(targets)) / foreground, images),
        }
