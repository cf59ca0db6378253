"""Two views of an unlabeled image: the teacher's is plain, the student's is flipped, recoloured and partly covered.

The student's colours, blur and covered patches are those of Unbiased Teacher (Liu et al., ICLR 2021, appendix).
"""

from collections.abc import Sequence
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2


@cache
def _strong_augmentation(strength: float) -> v2.Compose:
    """Return all of the student's augmentation but the flip; `strength` scales every chance, 1 is as published."""

    def covering(chance: float, scale: tuple[float, float], ratio: tuple[float, float]) -> v2.RandomErasing:
        return v2.RandomErasing(p=strength * chance, scale=scale, ratio=ratio, value="random")

    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=strength * 0.8),
            v2.RandomGrayscale(p=strength * 0.2),
            v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=strength * 0.5),
            covering(0.7, (0.05, 0.2), (0.3, 3.3)),
            covering(0.5, (0.02, 0.2), (0.1, 6.0)),
            covering(0.3, (0.02, 0.2), (0.05, 8.0)),
        ]
    )


def strong_views(
    images: Sequence[Float[Tensor, "3 h w"]], flip: float, strength: float
) -> tuple[list[Tensor], list[bool]]:
    """Return the student's views, drawn from torch's global generator, and which of them are mirrored.

    Args:
        images: the teacher's views, in 0..1.
        flip: chance of a horizontal flip.
        strength: 0 changes nothing but the flip, 1 is as published.
    """
    flipped = (torch.rand(len(images)) < flip).tolist()
    augment = _strong_augmentation(strength)
    views = []
    for image, mirror in zip(images, flipped, strict=True):
        views.append(augment(image.flip(-1) if mirror else image).clamp(0, 1))
    return views, flipped


def mirrored(boxes: Float[Tensor, "n 4"], width: int) -> Float[Tensor, "n 4"]:
    """Return xyxy boxes of a mirrored image of this width in pixels; applied twice it changes nothing."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)
