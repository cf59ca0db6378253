"""Boxes in float32 where a network computes in half precision.

Torchvision makes anchors and decodes boxes in the precision of the network's outputs. Under autocast that is bfloat16,
whose steps are 4 pixels wide above 512 and 8 pixels above 1024.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder, BoxLinearCoder
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return float32 for half precision; float32 and float64 as they are."""
    return torch.promote_types(dtype, torch.float32)


class WideAnchors(AnchorGenerator):  # type: ignore[misc]
    """Anchors in float32 or wider."""

    def forward(self, image_list: ImageList, feature_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each image; of the maps only their sizes, device and precision are used."""
        maps = [level.new_zeros((), dtype=wide(level.dtype)).expand(level.shape) for level in feature_maps]
        anchors: list[Tensor] = super().forward(image_list, maps)
        return anchors


class WideBoxCoder(BoxCoder):  # type: ignore[misc]
    """Boxes from anchors and deltas, in float32 or wider."""

    def decode(self, rel_codes: Tensor, boxes: list[Tensor]) -> Tensor:
        """Return the decoded boxes of a batch."""
        decoded: Tensor = super().decode(rel_codes.to(wide(rel_codes.dtype)), boxes)
        return decoded

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return the decoded boxes of one image."""
        decoded: Tensor = super().decode_single(rel_codes.to(wide(rel_codes.dtype)), boxes)
        return decoded


class WideLinearCoder(BoxLinearCoder):  # type: ignore[misc]
    """Boxes from locations and the distances to their sides, in float32 or wider."""

    def decode(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """Return the decoded boxes."""
        decoded: Tensor = super().decode(rel_codes.to(wide(rel_codes.dtype)), boxes)
        return decoded
