"""The second stage of Faster R-CNN and Mask R-CNN in training: sampled regions, and losses split by image."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection.roi_heads import RoIHeads, project_masks_on_boxes

from alloop.detectors.region_protocol import PseudoBoxes, RegionLoss
from alloop.detectors.torchvision.loss_sums import LossSums, rows_by_image, smooth_distance, summed_by_image
from alloop.detectors.torchvision.region_logits import SOFTMAX, LogitReading
from alloop.detectors.torchvision.sampling import Truth, overlaps, random_keys, sampled


class Regions(NamedTuple):
    """The sampled regions of a batch, one image after the other, and targets of the positive ones among them."""

    counts: list[int]  # regions of each image
    image: Tensor  # [r], row of the image
    boxes: Tensor  # [r, 4]
    labels: Tensor  # [r], 0 for the background
    positive_counts: list[int]  # positive regions of each image
    positive: Tensor  # [p], rows of the regions that belong to a box
    matched: Tensor  # [p], row of that box among those of the batch
    deltas: Tensor  # [p, 4]

    @property
    def by_image(self) -> list[Tensor]:
        """The regions of each image."""
        return list(torch.split(self.boxes, self.counts))

    @property
    def positive_by_image(self) -> list[Tensor]:
        """The positive regions of each image."""
        return list(torch.split(self.boxes[self.positive], self.positive_counts))


class PerImageRoIHeads(RoIHeads):  # type: ignore[misc]
    """The second stage, whose losses come as one number per image.

    It waits for a GPU a few times a batch; torchvision's own waits several times for every image.

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
        shapes: Sequence[tuple[int, int]],
        truth: Truth,
    ) -> dict[str, LossSums]:
        """Return the losses; the regions are sampled from torch's generator."""
        regions = self.regions(proposals, truth)
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, regions.by_image, shapes)))
        losses = self.box_loss_sums(logits, deltas, regions, truth)
        if self.has_mask():
            pooled = self.mask_roi_pool(features, regions.positive_by_image, shapes)
            losses["loss_mask"] = self.mask_loss_sums(self.mask_predictor(self.mask_head(pooled)), regions, truth)
        return losses

    def regions(self, proposals: Sequence[Tensor], truth: Truth, keys: Sequence[Tensor] | None = None) -> Regions:
        """Match and sample the proposals `[r, 4]` of each image, the true boxes among them.

        Args:
            proposals: of each image.
            truth: the boxes to find.
            keys: random numbers for the proposals and then the boxes of each image; None draws them.
        """
        boxes = truth.boxes.to(proposals[0].dtype)
        own = torch.split(boxes, truth.counts)
        found = [torch.cat(pair) for pair in zip(proposals, own, strict=True)]
        matches = [self.proposal_matcher(overlaps(*pair)) for pair in zip(own, found, strict=True)]
        keys = keys or random_keys([len(box) for box in found], boxes.device)
        image, place, row = sampled(matches, keys, self.fg_bg_sampler)
        chosen, positive = pad_sequence(found, batch_first=True)[image, place], torch.where(row >= 0)[0]
        matched = (truth.first[image] + row)[positive]
        labels = torch.zeros_like(row)
        labels[positive] = truth.labels[matched]
        images = len(found)
        counts = torch.stack([rows_by_image(rows, images) for rows in (image, image[positive])]).tolist()
        deltas = self.box_coder.encode_single(boxes[matched], chosen[positive])
        return Regions(counts[0], image, chosen, labels, counts[1], positive, matched, deltas)

    def box_loss_sums(self, logits: Tensor, deltas: Tensor, regions: Regions, truth: Truth) -> dict[str, LossSums]:
        """Return cross entropy and smooth L1; the samples are the sampled regions."""
        images, image = len(regions.counts), regions.image
        if truth.posteriors is None:
            entropy = self.classification_loss(logits, regions.labels, None)
        else:
            entropy = self.reading.losses(logits, _class_probabilities(regions, truth.posteriors))
        by_class = deltas.reshape(*logits.shape, 4)
        return {
            "loss_classifier": LossSums(summed_by_image(entropy, image, images), rows_by_image(image, images)),
            "loss_box_reg": _regression(by_class[regions.positive], regions, truth),
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
        shapes: Sequence[tuple[int, int]],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, LossSums]:
        """Return the weighted classification loss, and the box regression loss towards reliable pseudo-boxes.

        The regions of both are pooled at once; see `PseudoLabelDetector.pseudo_label_losses` for the arguments.
        """
        objects = Truth.of([{"boxes": p.boxes, "labels": p.labels + 1} for p in pseudo])
        reliable = Truth.of([{"boxes": p.reliable, "labels": p.reliable_labels + 1} for p in pseudo])
        classified, regressed = self.regions(proposals, objects), self.regions(proposals, reliable)
        both = [torch.cat(pair) for pair in zip(classified.by_image, regressed.positive_by_image, strict=True)]
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, both, shapes)))
        pairs = zip(classified.counts, regressed.positive_counts, strict=True)
        is_classified = torch.cat([torch.arange(first + second) < first for first, second in pairs])
        weights = torch.where(classified.labels > 0, 1.0, torch.cat(background(classified.by_image)))
        return {
            "loss_classifier": self._weighted_classification(logits[is_classified], classified, weights),
            "loss_box_reg": _regression(deltas.reshape(*logits.shape, 4)[~is_classified], regressed, reliable),
        }

    def _weighted_classification(self, logits: Tensor, regions: Regions, weights: Tensor) -> LossSums:
        """Return the weighted classification loss; the samples are the sums of the weights."""
        losses = self.classification_loss(logits, regions.labels, weights)
        total, samples = (summed_by_image(values, regions.image, len(regions.counts)) for values in (losses, weights))
        return LossSums(total, samples)

    def mask_loss_sums(self, logits: Tensor, regions: Regions, truth: Truth) -> LossSums:
        """Return the pixel cross entropy of the true class's mask; the samples are the positive regions.

        Args:
            logits: `[p, k + 1, m, m]` of the positive regions.
            regions: the sampled regions.
            truth: with masks.
        """
        images, image = len(regions.counts), regions.image[regions.positive]
        samples = rows_by_image(image, images)
        if not len(logits):
            return LossSums(logits.sum() * 0 + logits.new_zeros(images), samples)
        labels = regions.labels[regions.positive]
        predicted = logits[torch.arange(len(labels), device=labels.device), labels]
        expected = _region_masks(regions, truth, logits.shape[-1])
        losses = binary_cross_entropy_with_logits(predicted, expected, reduction="none").mean(dim=(1, 2))
        return LossSums(summed_by_image(losses * truth.certainty[regions.matched], image, images), samples)


def _regression(deltas: Tensor, regions: Regions, truth: Truth) -> LossSums:
    """Return smooth L1 of the positive regions' deltas `[p, k + 1, 4]`; the samples are all sampled regions."""
    images, image, labels = len(regions.counts), regions.image, regions.labels[regions.positive]
    predicted = deltas[torch.arange(len(labels), device=labels.device), labels]
    distance = smooth_distance(predicted, regions.deltas) * truth.certainty[regions.matched]
    return LossSums(summed_by_image(distance, image[regions.positive], images), rows_by_image(image, images))


def _region_masks(regions: Regions, truth: Truth, size: int) -> Tensor:
    """Return the true mask inside each positive region on a grid of `size` by `size`, `[p, m, m]`."""
    rows = regions.matched - truth.first[regions.image[regions.positive]]
    parts = zip(truth.masks, regions.positive_by_image, torch.split(rows, regions.positive_counts), strict=True)
    return torch.cat([project_masks_on_boxes(masks, boxes, row, size) for masks, boxes, row in parts if len(row)])


def _class_probabilities(regions: Regions, posteriors: Tensor) -> Tensor:
    """Return the class probabilities `[r, k + 1]` of the regions, background first; `posteriors [m, k]` of boxes."""
    posterior = posteriors[regions.matched]
    rows = posterior.new_zeros(len(regions.labels), posterior.shape[1] + 1)
    rows[:, 0] = 1
    rows[regions.positive] = torch.cat([1 - posterior.sum(dim=1, keepdim=True), posterior], dim=1).clamp(min=0)
    return rows
