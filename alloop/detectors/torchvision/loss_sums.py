"""Loss terms as sums per image, so that they can be divided by the samples of the batch or of each image."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

SMOOTH = 1 / 9  # beta of the smooth L1 loss, as in torchvision's two-stage detectors


class LossSums(NamedTuple):
    """A loss term before it is divided: its sum over the samples of each image, and their number, both `[batch]`.

    Where samples have weights, their number is the sum of the weights.
    """

    total: Tensor
    samples: Tensor
    least: float = 1  # the total is divided by no less


def per_batch(terms: Mapping[str, LossSums]) -> dict[str, Tensor]:
    """Return each term `[batch]` divided by the samples of the whole batch, as in training."""
    return {name: term.total / term.samples.sum().clamp(min=term.least) for name, term in terms.items()}


def per_image(terms: Mapping[str, LossSums]) -> Tensor:
    """Return the loss `[batch]` of each image as if it were trained on alone: divided by its own samples."""
    return torch.stack([term.total / term.samples.clamp(min=term.least) for term in terms.values()]).sum(dim=0)


def summed_by_image(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Return the sum `[images]` of `values [f]` for each image, computed in float32 or wider.

    Args:
        values: one number per row.
        image: `[f]`, the image of each row.
        images: number of images.
    """
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return wide.new_zeros(images).index_add(0, image, wide)


def rows_by_image(image: Tensor, images: int) -> Tensor:
    """Return the number of rows `[images]` of each image; `image [f]` is the image of each row.

    `bincount` would do, but waits for a GPU to learn how long its result is.
    """
    return image.new_zeros(images).index_add(0, image, torch.ones_like(image))


def posterior_of_labels(posteriors: Tensor, labels: Tensor) -> Tensor:
    """Return the probability `[n]` of each row's label; `posteriors` are `[n, k]`."""
    return posteriors.gather(1, labels[:, None])[:, 0]


def smooth_distance(predicted: Tensor, expected: Tensor) -> Tensor:
    """Return the smooth L1 distance `[n]` between deltas `[n, 4]`."""
    return smooth_l1_loss(predicted, expected, beta=SMOOTH, reduction="none").sum(dim=1)
