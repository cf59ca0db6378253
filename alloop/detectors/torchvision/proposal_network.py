"""The first stage of Faster R-CNN and Mask R-CNN: proposals of a batch, and losses split by image."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from alloop.detectors.torchvision.loss_sums import LossSums, rows_by_image, smooth_distance, summed_by_image
from alloop.detectors.torchvision.precision import wide
from alloop.detectors.torchvision.sampling import Truth, overlaps, random_keys, sampled
from alloop.detectors.torchvision.suppression import best_of_levels


class AnchorTargets(NamedTuple):
    """Targets of the sampled anchors of a batch, and of the positive ones among them."""

    images: int
    image: Tensor  # [s], row of the image
    anchor: Tensor  # [s]
    objects: Tensor  # [s], probability of an object: 0 or 1 unless the training targets carry posteriors
    positive: Tensor  # [p], rows of the anchors that belong to an object
    deltas: Tensor  # [p, 4]


class PerImageRPN(RegionProposalNetwork):  # type: ignore[misc]
    """The region proposal network whose losses come as one number per image.

    It waits for a GPU a few times a batch; torchvision's own waits several times for every image.
    """

    def forward(
        self, images: ImageList, features: dict[str, Tensor], truth: Truth
    ) -> tuple[list[Tensor], dict[str, LossSums]]:
        """Return proposals and losses; the anchors are sampled from torch's generator."""
        maps = list(features.values())
        scores, level_deltas = self.head(maps)
        anchors = self.anchor_generator(images, maps)[0]  # those of all images of a batch are the same
        counts = [level[0].numel() for level in scores]
        objectness, deltas = concat_box_prediction_layers(scores, level_deltas)
        proposals = self.proposals(anchors, objectness, deltas, images.image_sizes, counts)
        keys = random_keys([len(anchors)] * len(truth.counts), anchors.device)
        return proposals, self.loss_sums(objectness, deltas, self.anchor_targets(anchors, truth, keys))

    def proposals(
        self,
        anchors: Tensor,
        objectness: Tensor,
        deltas: Tensor,
        shapes: Sequence[tuple[int, int]],
        counts: list[int],
    ) -> list[Tensor]:
        """Return torchvision's proposals `[r, 4]` of each image, the best first, without a gradient.

        Torchvision decodes all anchors. Here only the best of each level are decoded.

        Args:
            anchors: `[a, 4]`, of each image.
            objectness: logits `[b a, 1]`.
            deltas: `[b a, 4]`.
            shapes: (height, width) of each image.
            counts: number of anchors of each level.
        """
        images = len(shapes)
        logits = objectness.detach().reshape(images, -1)
        best = self._get_top_n_idx(logits, counts)  # [b, t]
        scores = logits.gather(1, best).to(wide(logits.dtype)).sigmoid()
        chosen = deltas.detach().reshape(images, -1, 4).gather(1, best[..., None].expand(-1, -1, 4))
        boxes = self.box_coder.decode_single(chosen.flatten(0, 1), anchors[best.flatten()]).reshape(images, -1, 4)
        sides = torch.tensor(shapes, dtype=boxes.dtype, device=boxes.device).flip(1).repeat(1, 2)  # x, y, x, y
        boxes = torch.minimum(boxes.clamp(min=0), sides[:, None])
        large = (boxes[..., 2:] - boxes[..., :2] >= self.min_size).all(dim=2)
        levels = [min(count, self.pre_nms_top_n()) for count in counts]
        valid = large & (scores >= self.score_thresh)
        rows = best_of_levels(boxes, scores, valid, levels, self.nms_thresh)
        return [box[row[: self.post_nms_top_n()]] for box, row in zip(boxes, rows, strict=True)]

    def anchor_targets(self, anchors: Tensor, truth: Truth, keys: Sequence[Tensor]) -> AnchorTargets:
        """Match the anchors `[a, 4]`, which all images share, and sample them by random `keys [a]` of each image."""
        # the overlaps of one image at a time stay in the cache of a CPU, and are small on a GPU
        boxes = torch.split(truth.boxes, truth.counts)
        matches = [self.proposal_matcher(overlaps(own, anchors)) for own in boxes]
        image, anchor, row = sampled(matches, keys, self.fg_bg_sampler)
        positive = torch.where(row >= 0)[0]
        box = (truth.first[image] + row)[positive]
        objects = truth.certainty.new_zeros(len(image))
        objects[positive] = truth.certainty[box]
        deltas = self.box_coder.encode_single(truth.boxes[box], anchors[anchor[positive]])
        return AnchorTargets(len(truth.counts), image, anchor, objects, positive, deltas)

    def loss_sums(self, objectness: Tensor, deltas: Tensor, goals: AnchorTargets) -> dict[str, LossSums]:
        """Return binary cross entropy and smooth L1; the samples are the sampled anchors."""
        images, image, anchor = goals.images, goals.image, goals.anchor
        samples = rows_by_image(image, images)
        logits = objectness.reshape(images, -1)[image, anchor]
        entropy = binary_cross_entropy_with_logits(logits, goals.objects, reduction="none")
        image_of_box = image[goals.positive]
        predicted = deltas.reshape(images, -1, 4)[image_of_box, anchor[goals.positive]]
        distance = smooth_distance(predicted, goals.deltas) * goals.objects[goals.positive]
        return {
            "loss_objectness": LossSums(summed_by_image(entropy, image, images), samples),
            "loss_rpn_box_reg": LossSums(summed_by_image(distance, image_of_box, images), samples),
        }
