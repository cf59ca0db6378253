"""Losses of the two stages of Faster R-CNN and Mask R-CNN, split by image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, smooth_l1_loss, softmax
from torchvision.models.detection.roi_heads import RoIHeads, maskrcnn_inference, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from alloop.detectors.protocol import PseudoBoxes, RegionLoss
from alloop.detectors.torchvision.parts import LossSums, of_labels, rows_by_image, summed_by_image

SMOOTH = 1 / 9  # beta of the smooth L1 loss, as in torchvision
Targets = Sequence[dict[str, Tensor]]


class Anchored(NamedTuple):
    """What the sampled anchors shall say; `positive` and `negative` are `[b, a]`."""

    positive: Tensor
    negative: Tensor
    objects: Tensor  # [b, a], the probability of an object: 0 or 1 unless the targets carry posteriors
    deltas: Tensor  # [b, a, 4]


class PerImageRPN(RegionProposalNetwork):  # type: ignore[misc]
    """The region proposal network whose losses come as one number an image."""

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: Sequence[Tensor],
        regression_targets: Sequence[Tensor],
    ) -> tuple[LossSums, LossSums]:
        """Objectness and box loss; the samples are the sampled anchors."""
        positive, negative = self.fg_bg_sampler(labels)
        goals = Anchored(
            torch.stack(positive).bool(),
            torch.stack(negative).bool(),
            self._objects,
            torch.stack(list(regression_targets)),
        )
        return self.shares(objectness, pred_bbox_deltas, goals)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As torchvision's; keeps the probability of an object for `compute_loss`, which torchvision calls next."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        objects = [label.clamp(min=0) for label in labels]
        for image, target in enumerate(targets):
            if "posteriors" in target and len(target["boxes"]):
                quality = self.box_similarity(target["boxes"], anchors[image])
                row = self.proposal_matcher(quality).clamp(min=0)
                objects[image] = objects[image] * of_labels(target["posteriors"], target["labels"] - 1)[row]
        self._objects = torch.stack(objects)
        return labels, boxes

    def shares(self, objectness: Tensor, deltas: Tensor, goals: Anchored) -> tuple[LossSums, LossSums]:
        """Binary cross entropy and smooth L1 of the sampled anchors, by image."""
        images = len(goals.positive)
        image, place = torch.where(goals.positive | goals.negative)
        samples = rows_by_image(image, images)
        said = objectness.reshape(goals.positive.shape)[image, place]
        entropy = binary_cross_entropy_with_logits(said, goals.objects[image, place], reduction="none")
        hit, anchor = torch.where(goals.positive)
        reached = deltas.reshape(goals.deltas.shape)[hit, anchor]
        distance = smooth_l1_loss(reached, goals.deltas[hit, anchor], beta=SMOOTH, reduction="none").sum(dim=1)
        distance = distance * goals.objects[hit, anchor]
        return LossSums(summed_by_image(entropy, image, images), samples), LossSums(
            summed_by_image(distance, hit, images), samples
        )

    def anchored(self, anchors: Tensor, target: dict[str, Tensor]) -> Anchored:
        """Match and sample the anchors `[a, 4]` of one image; the sampling draws from torch's generator."""
        labels, boxes = self.assign_targets_to_anchors([anchors], [target])
        deltas = self.box_coder.encode(boxes, [anchors])[0]
        positive, negative = self.fg_bg_sampler(labels)
        return Anchored(positive[0].bool()[None], negative[0].bool()[None], self._objects, deltas[None])


class Regions(NamedTuple):
    """The sampled regions of each image, and what they shall say. Label 0 is the background."""

    boxes: list[Tensor]
    matched: list[Tensor]  # row of the image's boxes
    labels: list[Tensor]
    deltas: list[Tensor]

    @property
    def positive(self) -> list[Tensor]:
        """Rows of each image that belong to an object."""
        return [torch.where(label > 0)[0] for label in self.labels]

    @property
    def positive_boxes(self) -> list[Tensor]:
        """The boxes of those rows."""
        return [box[row] for box, row in zip(self.boxes, self.positive, strict=True)]


class PerImageRoIHeads(RoIHeads):  # type: ignore[misc]
    """The second stage: losses as one number an image, detections with their posterior and proposal.

    `classification`, where it is set, replaces the cross entropy of regions that are told their class.
    """

    classification: RegionLoss | None = None

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, LossSums]]:
        """Detections in eval mode, losses in train mode."""
        if not self.training:
            return self.detections(features, proposals, image_shapes), {}
        regions = Regions(*self.select_training_samples(list(proposals), targets or []))
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions.boxes, image_shapes)))
        losses = self.box_shares(logits, deltas, regions, targets or [])
        if self.has_mask():
            pooled = self.mask_roi_pool(features, regions.positive_boxes, image_shapes)
            masks = self.mask_predictor(self.mask_head(pooled))
            losses["loss_mask"] = self.mask_shares(masks, regions, targets or [])
        return [], losses

    def box_shares(self, logits: Tensor, deltas: Tensor, regions: Regions, targets: Targets) -> dict[str, LossSums]:
        """Cross entropy and smooth L1; the samples are the sampled regions."""
        images, of_image = len(regions.boxes), _image_rows(regions.boxes)  # [r]
        samples = rows_by_image(of_image, images)
        label = torch.cat(regions.labels)
        belief, classes = _believed(regions, targets, logits.shape[-1])
        if classes is None:
            entropy = self.entropy(logits, label, None)
        else:
            entropy = cross_entropy(logits, classes, reduction="none")
        hit = torch.where(label > 0)[0]
        distance = smooth_l1_loss(
            deltas.reshape(len(label), -1, 4)[hit, label[hit]],
            torch.cat(regions.deltas)[hit],
            beta=SMOOTH,
            reduction="none",
        ).sum(dim=1)
        return {
            "loss_classifier": LossSums(summed_by_image(entropy, of_image, images), samples),
            "loss_box_reg": LossSums(summed_by_image(distance * belief[hit], of_image[hit], images), samples),
        }

    def entropy(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """The classification loss of each region, times its weight; label 0 is the background."""
        if self.classification is not None:
            classes = logits.shape[1]
            return self.classification(logits.roll(-1, dims=1), (labels - 1) % classes, weights)
        found = cross_entropy(logits, labels, reduction="none")
        return found if weights is None else found * weights

    def taught_shares(
        self,
        features: dict[str, Tensor],
        proposals: Sequence[Tensor],
        shapes: list[tuple[int, int]],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, LossSums]:
        """Classification under weights and box regression towards reliable boxes; the regions of both go in at once."""
        told = [{"boxes": p.boxes, "labels": p.labels + 1} for p in pseudo]
        sure = [{"boxes": p.reliable, "labels": p.reliable_labels + 1} for p in pseudo]
        regions = Regions(*self.select_training_samples(list(proposals), told))
        reached = Regions(*self.select_training_samples(list(proposals), sure))
        both = [torch.cat(pair) for pair in zip(regions.boxes, reached.positive_boxes, strict=True)]
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, both, shapes)))
        first = torch.cat([_first(len(a), len(b)) for a, b in zip(regions.boxes, both, strict=True)])
        images, of_image, label = len(both), _image_rows(regions.boxes), torch.cat(regions.labels)
        weights = torch.where(label > 0, 1.0, torch.cat(background(regions.boxes)))
        entropy = self.entropy(logits[first], label, weights)

        moved, of_moved = deltas[~first], _image_rows(reached.positive_boxes)
        goal = torch.cat([d[row] for d, row in zip(reached.deltas, reached.positive, strict=True)])
        own = torch.cat([x[row] for x, row in zip(reached.labels, reached.positive, strict=True)])
        moved = moved.reshape(len(own), logits.shape[1], 4)[torch.arange(len(own), device=own.device), own]
        distance = smooth_l1_loss(moved, goal, beta=SMOOTH, reduction="none").sum(dim=1)
        sampled = rows_by_image(_image_rows(reached.boxes), images)
        return {
            "loss_classifier": LossSums(
                summed_by_image(entropy, of_image, images), summed_by_image(weights, of_image, images)
            ),
            "loss_box_reg": LossSums(summed_by_image(distance, of_moved, images), sampled),
        }

    def mask_shares(self, logits: Tensor, regions: Regions, targets: Targets) -> LossSums:
        """Pixel cross entropy `[p, k, m, m]` of the true class's mask; the samples are the positive regions."""
        rows, boxes = regions.positive, regions.positive_boxes
        of_image = _image_rows(boxes)
        samples = rows_by_image(of_image, len(boxes))
        if not len(logits):
            return LossSums(logits.sum() * 0 + logits.new_zeros(len(boxes)), samples)
        truth = torch.cat(
            [
                project_masks_on_boxes(target["masks"], box, match[row], logits.shape[-1])
                for target, box, match, row in zip(targets, boxes, regions.matched, rows, strict=True)
                if len(row)
            ]
        )
        label = torch.cat([label[row] for label, row in zip(regions.labels, rows, strict=True)])
        own = logits[torch.arange(len(label), device=label.device), label]
        per_mask = binary_cross_entropy_with_logits(own, truth, reduction="none").mean(dim=(1, 2))
        belief, _ = _believed(regions, targets, logits.shape[1])
        per_mask = per_mask * belief[torch.cat(regions.labels) > 0]
        return LossSums(summed_by_image(per_mask, of_image, len(boxes)), samples)

    def detections(
        self, features: dict[str, Tensor], proposals: Sequence[Tensor], shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Detections of each image; masks are `[n, 1, m, m]` inside their boxes."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, shapes)))
        counts = [len(boxes) for boxes in proposals]
        decoded = self.box_coder.decode(deltas, list(proposals)).split(counts)
        posterior = torch.split(softmax(logits, dim=-1), counts)
        found = [self._cut(*part) for part in zip(decoded, posterior, proposals, shapes, strict=True)]
        if self.has_mask():
            pooled = self.mask_roi_pool(features, [f["boxes"] for f in found], shapes)
            masks = maskrcnn_inference(self.mask_predictor(self.mask_head(pooled)), [f["labels"] for f in found])
            for result, mask in zip(found, masks, strict=True):
                result["masks"] = mask
        return found

    def _cut(self, boxes: Tensor, posterior: Tensor, proposals: Tensor, shape: tuple[int, int]) -> dict[str, Tensor]:
        """The same cut, order and suppression as torchvision's own, keeping each proposal and its posterior."""
        foreground = posterior[:, 1:]  # [r, k]
        row, label = torch.where(foreground > self.score_thresh)
        scores = foreground[row, label]
        boxes = boxes.reshape(*posterior.shape, 4)  # without a proposal torchvision leaves another shape
        boxes = clip_boxes_to_image(boxes[row, label + 1], shape)
        wide = remove_small_boxes(boxes, min_size=1e-2)
        boxes, scores, label, row = boxes[wide], scores[wide], label[wide], row[wide]
        keep = batched_nms(boxes, scores, label, self.nms_thresh)[: self.detections_per_img]
        return {
            "boxes": boxes[keep],
            "scores": scores[keep],
            "labels": label[keep] + 1,
            "probabilities": foreground[row[keep]],
            "proposals": proposals[row[keep]],
        }


def _believed(regions: Regions, targets: Targets, classes: int) -> tuple[Tensor, Tensor | None]:
    """How far each region's object is believed `[r]`, and its class probabilities `[r, classes]`.

    Targets without posteriors are believed wholly, and their label says it all: None.
    """
    label = torch.cat(regions.labels)
    belief = torch.ones(len(label), dtype=regions.boxes[0].dtype, device=label.device)
    if not any("posteriors" in target for target in targets):
        return belief, None
    rows = torch.nn.functional.one_hot(label, classes).to(targets[0]["boxes"].dtype)
    start = 0
    for target, matched, labels in zip(targets, regions.matched, regions.labels, strict=True):
        hit = torch.where(labels > 0)[0]
        if len(hit):
            posterior = target["posteriors"][matched[hit]]  # [h, k]
            rows[start + hit] = torch.cat([1 - posterior.sum(dim=1, keepdim=True), posterior], dim=1).clamp(min=0)
            belief[start + hit] = of_labels(posterior, labels[hit] - 1)
        start += len(labels)
    return belief, rows


def _first(count: int, total: int) -> Tensor:
    """Which of so many rows are the first `count`."""
    return torch.arange(total) < count


def _image_rows(boxes: Sequence[Tensor]) -> Tensor:
    """For each box of a batch, the row of its image."""
    counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
    return torch.arange(len(boxes), device=counts.device).repeat_interleave(counts)
