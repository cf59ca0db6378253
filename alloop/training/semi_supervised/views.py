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
def _strong(strength: float) -> v2.Compose:
    """All that befalls the student's view; `strength` scales every chance, 1 is as published."""

    def covered(chance: float, scale: tuple[float, float], ratio: tuple[float, float]) -> v2.RandomErasing:
        return v2.RandomErasing(p=strength * chance, scale=scale, ratio=ratio, value="random")

    return v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=strength * 0.8),
            v2.RandomGrayscale(p=strength * 0.2),
            v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=strength * 0.5),
            covered(0.7, (0.05, 0.2), (0.3, 3.3)),
            covered(0.5, (0.02, 0.2), (0.1, 6.0)),
            covered(0.3, (0.02, 0.2), (0.05, 8.0)),
        ]
    )


def strong_views(
    images: Sequence[Float[Tensor, "3 h w"]], flip: float, strength: float
) -> tuple[list[Tensor], list[bool]]:
    """The student's views, drawn from torch's generator, and which of them are mirrored.

    Args:
        images: the teacher's views, in 0..1.
        flip: chance of a horizontal flip.
        strength: 0 changes nothing else, 1 is as published.
    """
    flipped = (torch.rand(len(images)) < flip).tolist()
    strong = _strong(strength)
    views = [strong(image.flip(-1) if turn else image).clamp(0, 1) for image, turn in zip(images, flipped, strict=True)]
    return views, flipped


def mirrored(boxes: Float[Tensor, "n 4"], width: int) -> Float[Tensor, "n 4"]:
    """Boxes of an image that is flipped; twice gives them back."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)
