"""Matching and sampling of regions with the results of torchvision's own code, which asks a GPU about every image.

Each question about how many rows there are makes the program wait until the GPU has computed everything before it.
Here all questions about a batch are one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from alloop.detectors.torchvision.loss_sums import posterior_of_labels

BACKGROUND, NEITHER = -1, -2  # what torchvision's matcher returns for them


class Truth(NamedTuple):
    """The boxes of a batch, one image after the other."""

    counts: list[int]  # boxes of each image
    first: Tensor  # [b], row of the first box of each image
    boxes: Tensor  # [m, 4]
    labels: Tensor  # [m], from 1; 0 is the background
    certainty: Tensor  # [m], probability of each label: 1 unless the training targets carry posteriors
    posteriors: Tensor | None  # [m, k]
    masks: list[Tensor]  # uint8 [n, h, w] of each image; empty without masks

    @classmethod
    def of(cls, targets: Sequence[Mapping[str, Any]]) -> "Truth":
        """Join the targets of the images of a batch, whose labels begin with 1."""
        counts = [len(target["boxes"]) for target in targets]
        boxes, labels = (torch.cat([target[name] for target in targets]) for name in ("boxes", "labels"))
        first = torch.tensor([0, *counts[:-1]]).cumsum(0).to(boxes.device)
        certainty, posteriors = torch.ones_like(boxes[:, 0]), None
        if any("posteriors" in target for target in targets):
            own = [target["posteriors"] for target in targets if "posteriors" in target]
            posteriors = torch.cat(own).to(boxes.dtype)
            certainty = posterior_of_labels(posteriors, labels - 1)
        masks = [target["masks"] for target in targets if "masks" in target]
        return cls(counts, first, boxes, labels, certainty, posteriors, masks)


def overlaps(boxes: Float[Tensor, "*b m 4"], regions: Float[Tensor, "*b n 4"]) -> Float[Tensor, "*b m n"]:
    """Return the IoU of boxes with regions, the same numbers as torchvision's `box_iou`.

    One coordinate is computed after the other, which takes a CPU a third of the time.
    """
    left, top, right, bottom = boxes.movedim(-1, 0)[..., None]
    others = regions.movedim(-1, 0).contiguous()[..., None, :]
    width = torch.minimum(right, others[2]).sub_(torch.maximum(left, others[0])).clamp_(min=0)
    shared = torch.minimum(bottom, others[3]).sub_(torch.maximum(top, others[1])).clamp_(min=0).mul_(width)
    areas = (right - left) * (bottom - top), (others[2] - others[0]) * (others[3] - others[1])
    return shared.div_(torch.add(*areas, out=width).sub_(shared))


class WaitFreeMatcher(Matcher):  # type: ignore[misc]
    """Torchvision's matcher with the same result, computed without asking how many regions it matches."""

    def __call__(self, match_quality_matrix: Float[Tensor, "m n"]) -> Int64[Tensor, " n"]:
        """Return the row of the box that each region belongs to, `BACKGROUND`, or `NEITHER`.

        Args:
            match_quality_matrix: IoU of boxes and regions. Without a box all regions are background.
        """
        quality = match_quality_matrix
        if not len(quality):
            return quality.new_full(quality.shape[1:], BACKGROUND, dtype=torch.int64)
        best, row = quality.max(dim=0)
        matched = torch.where(best < self.high_threshold, NEITHER, row)
        matched = torch.where(best < self.low_threshold, BACKGROUND, matched)
        if self.allow_low_quality_matches:
            is_best_of_a_box = (quality == quality.amax(dim=1, keepdim=True)).any(dim=0)
            matched = torch.where(is_best_of_a_box, row, matched)
        return matched


def random_keys(counts: Sequence[int], device: torch.device) -> list[Int64[Tensor, " _"]]:
    """Return one random whole number for each row of each image, drawn from torch's generator.

    They are so large that two are never equal in practice.
    """
    return [torch.randint(2**63 - 1, (count,), device=device) for count in counts]


def sampled(
    matched: Sequence[Int64[Tensor, " _"]],
    keys: Sequence[Int64[Tensor, " _"]],
    sampler: BalancedPositiveNegativeSampler,
) -> tuple[Int64[Tensor, " s"], Int64[Tensor, " s"], Int64[Tensor, " s"]]:
    """Sample as many positive and negative rows of each image as torchvision's sampler, all choices equally likely.

    Args:
        matched: what a matcher returns for each image.
        keys: as many random numbers for each image. The rows with the largest are taken.
        sampler: says how many rows an image gives, and how many of them may be positive.

    Returns:
        The image, the row and the match of each sampled row, one image after the other.
    """
    matches = pad_sequence(list(matched), batch_first=True, padding_value=NEITHER)
    order = pad_sequence(list(keys), batch_first=True)
    wanted = sampler.batch_size_per_image
    positive, is_positive = _drawn(matches >= 0, order, int(wanted * sampler.positive_fraction))
    negative, is_negative = _drawn(matches == BACKGROUND, order, wanted)
    left = wanted - is_positive.sum(dim=1, keepdim=True)
    is_negative &= torch.arange(negative.shape[1], device=left.device) < left
    image, place = torch.where(torch.cat([is_positive, is_negative], dim=1))
    row = torch.cat([positive, negative], dim=1)[image, place]
    return image, row, matches[image, row]


def _drawn(
    eligible: Bool[Tensor, "b n"], keys: Int64[Tensor, "b n"], most: int
) -> tuple[Int64[Tensor, "b k"], Bool[Tensor, "b k"]]:
    """Return the `most` columns of each row that have the largest keys, eligible ones first, and which are eligible."""
    largest, column = torch.where(eligible, keys, -1).topk(min(most, keys.shape[1]), dim=1)
    return column, largest >= 0
