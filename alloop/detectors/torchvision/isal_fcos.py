"""The FCOS on which ISAL (Liu et al. 2021) was measured: that of Tian et al. 2019 without later improvements.

A location is the centre (x, y) of a cell of a pyramid level l with stride s_l. Its distances to the sides of a box are

    left = x - x1,  top = y - y1,  right = x2 - x,  bottom = y2 - y                 in pixels

It is positive for a box if all four are above 0 and the largest is at least 4 s_l and at most 8 s_l. The finest level
has no lower bound and the coarsest no upper one. Of several such boxes it takes the one of least area. Centres are not
sampled: every location inside a box counts.

    predicted distances = exp(a_l z)                      z: output of the last convolution, a_l: learned, at first 1
    c = sqrt(min(left, right) / max(left, right) x min(top, bottom) / max(top, bottom))           expected centerness
    L = 1 / (P + B) sum over locations and classes of focal(class)                      gamma = 2, alpha = 0.25
      + 1 / sum(c) sum over positive locations of c (-log IoU)
      + 1 / P sum over positive locations of cross entropy(centerness, c)

P is the number of positive locations and B the number of images of the batch. The towers have no normalisation, and
centerness is predicted from the tower of the classes.

Source: mmdetection 2.4, `fcos_r50_caffe_fpn_4x4_1x_coco` and the losses and heads that it names. Two differences: the
posterior of a pseudo-label weighs its terms, and predicted distances have an upper limit.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_area

from alloop.detectors.torchvision.features import by_location
from alloop.detectors.torchvision.loss_sums import LossSums, summed_by_image
from alloop.detectors.torchvision.one_stage_losses import LocationTargets, PerImageFCOSHead
from alloop.detectors.torchvision.one_stage_models import PosteriorFCOS
from alloop.detectors.torchvision.precision import WideAnchors, WideLinearCoder, wide

# Wild weights would give infinite distances, and then losses that are no numbers. No image is as wide as this many
# pixels, and float32 holds the area of a box with such sides.
LARGEST_DISTANCE = 2.0**16
LEAST_IOU = 1e-6  # a box of less overlap has the loss of this one and no gradient
LEAST_WEIGHT = 1e-6  # what the box losses are divided by where no location is positive


class CellCentres(WideAnchors):
    """Boxes of one stride by one stride around the centre of each cell of each level.

    Torchvision's lie around the upper left corners of the cells, and closer together where a level has more cells than
    its stride says, as the last levels of a batch of 800 pixels have.
    """

    def grid_anchors(self, grid_sizes: Sequence[tuple[int, ...]], strides: Any) -> list[Tensor]:  # noqa: ARG002
        """Return the boxes `[h x w, 4]` of each level from the number of its rows and columns."""
        own = [side for (side,) in self.sizes]
        corners = super().grid_anchors(grid_sizes, [[side, side] for side in own])
        return [level + side // 2 for level, side in zip(corners, own, strict=True)]


def distance_ranges(locations: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the least and the largest distance in pixels that each location is positive for, both `[a]`.

    Args:
        locations: `[a, 4]`, cells with sides of one stride, level by level.
        counts: the number of locations of each level.
    """
    stride = locations[:, 2] - locations[:, 0]
    least, largest = 4 * stride, 8 * stride
    least[: counts[0]] = 0
    largest[-counts[-1] :] = torch.inf
    return least, largest


def matched_boxes(locations: Tensor, boxes: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the row of the box that each location is positive for, `[a]`, -1 where there is none.

    Args:
        locations: `[a, 4]`, cells with sides of one stride, level by level.
        boxes: `[n, 4]`, xyxy in pixels.
        counts: the number of locations of each level.
    """
    if not len(boxes):
        return torch.full((len(locations),), -1, device=locations.device)
    centres = ((locations[:, :2] + locations[:, 2:]) / 2)[:, None]
    distances = torch.cat([centres - boxes[:, :2], boxes[:, 2:] - centres], dim=2)  # [a, n, 4]
    least, largest = (bound[:, None] for bound in distance_ranges(locations, counts))
    farthest = distances.amax(dim=2)
    positive = (distances.amin(dim=2) > 0) & (farthest >= least) & (farthest <= largest)
    area, row = torch.where(positive, box_area(boxes), torch.inf).min(dim=1)
    return torch.where(area < torch.inf, row, -1)


def iou_loss(boxes: Tensor, expected: Tensor) -> Tensor:
    """Return -log IoU `[f]` of each box `[f, 4]` with the expected box `[f, 4]` of its row."""
    sides = torch.minimum(boxes[:, 2:], expected[:, 2:]) - torch.maximum(boxes[:, :2], expected[:, :2])
    width, height = sides.clamp(min=0).unbind(dim=1)
    overlap = width * height
    union = box_area(boxes) + box_area(expected) - overlap
    iou: Tensor = overlap / union
    return -iou.clamp(min=LEAST_IOU).log()


class IsalFCOSHead(PerImageFCOSHead):
    """The head: towers without normalisation, one learned scale per level, centerness beside the classes.

    Attributes:
        scales: `[levels]`, a_l in the equations.
    """

    def __init__(self, channels: int, classes: int, tower_convs: int, levels: int) -> None:
        super().__init__(channels, classes, tower_convs, nn.Identity)
        self.scales = nn.Parameter(torch.ones(levels))
        self.box_coder = WideLinearCoder(normalize_by_size=False)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Return class logits, distances in pixels and centerness logits of all locations, `[n, locations, width]`."""
        classes, boxes = self.classification_head, self.regression_head
        class_tower, box_tower = ([part.conv(level) for level in x] for part in (classes, boxes))
        centerness_tower = self.centerness_tower(class_tower, box_tower)
        outputs = {
            "cls_logits": [by_location(classes.cls_logits(level), classes.num_classes) for level in class_tower],
            "bbox_regression": self.box_outputs([by_location(boxes.bbox_reg(level), 4) for level in box_tower]),
            "bbox_ctrness": [by_location(boxes.bbox_ctrness(level), 1) for level in centerness_tower],
        }
        return {name: torch.cat(levels, dim=1) for name, levels in outputs.items()}

    def box_outputs(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return distances in pixels from the last convolution's output; one `[n, locations, 4]` per level.

        They are computed in float32 or wider: float16 ends at 65,504, and bfloat16 has steps of 4 pixels above 512.
        """
        exponents = [scale * level.to(wide(level.dtype)) for scale, level in zip(self.scales, levels, strict=True)]
        return [exponent.clamp(max=math.log(LARGEST_DISTANCE)).exp() for exponent in exponents]

    def centerness_tower(self, class_tower: list[Tensor], box_tower: list[Tensor]) -> list[Tensor]:  # noqa: ARG002
        """Return the tower that the centerness is predicted from, one map per level."""
        return class_tower

    def classification_samples(self, goals: LocationTargets) -> Tensor:
        """Return what the focal loss of each image is divided by, `[b]`: its positive locations and one more."""
        return goals.positives + 1

    def box_loss(self, boxes: Tensor, centerness: Tensor, goals: LocationTargets) -> LossSums:
        """Return the IoU loss of boxes `[f, 4]`, weighted by the expected centerness `[f]` of their locations."""
        images = len(goals.positives)
        losses = iou_loss(boxes, goals.boxes) * centerness * goals.weights
        totals, weights = (summed_by_image(values, goals.image, images) for values in (losses, centerness))
        return LossSums(totals, weights, least=LEAST_WEIGHT)


class IsalFCOS(PosteriorFCOS):
    """FCOS in which every location inside a box, at a distance of its level, is positive."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> Any:
        """Return the loss sums; without outputs, the targets of the locations."""
        pairs = zip(anchors, targets, strict=True)
        matched = [matched_boxes(locations, target["boxes"], num_anchors_per_level) for locations, target in pairs]
        return self.head.compute_loss(targets, head_outputs, anchors, matched)
