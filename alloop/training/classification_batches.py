"""Training batches of labeled images with one class each."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn import functional

from alloop.data.pixels import Size
from alloop.detectors.protocol import Image, Target
from alloop.training.batches import TrainingBatches
from alloop.values import ImageId


class ClassificationBatches(TrainingBatches):
    """Batches whose targets are classes.

    With `training.crop_padding`, an image is laid on a black border of this many pixels, and a window of its own size
    is cut out at random, as usual on CIFAR (He et al. 2016, section 4.2).
    """

    def __call__(self, step: int) -> tuple[list[Image], list[Target], list[ImageId]]:
        """Return images, targets and image ids of one step."""
        images, targets, image_ids = super().__call__(step)
        return self._cropped(images, step), targets, image_ids

    def _target(self, image_id: ImageId, size: Size, mirrored: bool) -> dict[str, np.ndarray]:  # noqa: ARG002, FBT001
        """Return the class of one image; scaling and mirroring do not change it."""
        return {"labels": self._labeled[image_id].labels}

    def _cropped(self, images: Sequence[Tensor], step: int) -> list[Image]:
        """Return windows of padded images; where they lie is a function of seed and step."""
        padding = self._config.crop_padding
        if not padding:
            return [*images]
        corners = self._seed.rng("crop", step).integers(0, 2 * padding + 1, (len(images), 2)).tolist()
        return [_window(image, padding, *corner) for image, corner in zip(images, corners, strict=True)]


def _window(image: Tensor, padding: int, left: int, top: int) -> Tensor:
    """Return the window of an image's size at a corner of the padded image."""
    height, width = image.shape[-2:]
    padded = functional.pad(image, [padding] * 4)
    return padded[..., top : top + height, left : left + width].contiguous()
