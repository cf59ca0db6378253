"""Two views of an unlabeled image: the teacher's is plain, the student's is flipped, recoloured and partly covered.

The student's colours, blur and covered patches are those of Unbiased Teacher (Liu et al., ICLR 2021, appendix).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.transforms import v2

_STRONG = v2.Compose(
    [
        v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
        v2.RandomGrayscale(p=0.2),
        v2.RandomApply([v2.GaussianBlur(kernel_size=9, sigma=(0.1, 2.0))], p=0.5),
        v2.RandomErasing(p=0.7, scale=(0.05, 0.2), ratio=(0.3, 3.3), value="random"),
        v2.RandomErasing(p=0.5, scale=(0.02, 0.2), ratio=(0.1, 6.0), value="random"),
        v2.RandomErasing(p=0.3, scale=(0.02, 0.2), ratio=(0.05, 8.0), value="random"),
    ]
)


def strong_views(images: Sequence[Float[Tensor, "3 h w"]], flip: float) -> tuple[list[Tensor], list[bool]]:
    """The student's views, drawn from torch's generator, and which of them are mirrored.

    Args:
        images: the teacher's views, in 0..1.
        flip: chance of a horizontal flip.
    """
    flipped = (torch.rand(len(images)) < flip).tolist()
    views = [
        _STRONG(image.flip(-1) if turn else image).clamp(0, 1) for image, turn in zip(images, flipped, strict=True)
    ]
    return views, flipped


def mirrored(boxes: Float[Tensor, "n 4"], width: int) -> Float[Tensor, "n 4"]:
    """Boxes of an image that is flipped; twice gives them back."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([width - right, top, width - left, bottom], dim=1)
