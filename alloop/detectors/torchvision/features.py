"""Images as torchvision's detectors take them, without hidden resizing, and features pooled from their backbones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from alloop.detectors.protocol import FrozenFeatures, Image, Target
from alloop.detectors.torchvision.frozen_layers import FrozenBatch
from alloop.detectors.torchvision.region_pooling import RegionPooling

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRAPH_TENSORS = 60  # approximate number of output-sized tensors that the graph of a gradient holds


class NormalizeOnly(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Torchvision's transform without its resizing: images arrive at the size they are used at."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=list(MEAN), image_std=list(STD))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)

    def forward(self, images: Sequence[Image], targets: Any = None) -> tuple[ImageList, Any]:
        """Return the batch and the targets; features of frozen layers are joined as they are."""
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        if isinstance(images[0], FrozenFeatures):
            return ImageList(FrozenBatch.of(images, self.size_divisible), sizes), targets
        return ImageList(self._normalized(images), sizes), targets

    def _normalized(self, images: Sequence[Tensor]) -> Tensor:
        """Return images `[3, h, w]` of 0..1 as one batch, each written to its place once, with zeros around it."""
        sides = (max(image.shape[axis] for image in images) for axis in (1, 2))
        height, width = (-(-side // self.size_divisible) * self.size_divisible for side in sides)
        batch = images[0].new_zeros((len(images), 3, height, width))
        for place, image in zip(batch, images, strict=True):
            own = place[:, : image.shape[1], : image.shape[2]]
            torch.sub(image, self.mean, out=own).div_(self.std)
        return batch


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Use eval mode and no gradients; the mode of every submodule comes back, also after an exception."""
    with in_eval_mode(module), torch.no_grad():
        yield


@contextmanager
def in_eval_mode(module: nn.Module) -> Iterator[None]:
    """Use eval mode; the mode of every submodule comes back, also after an exception."""
    modes = {name: child.training for name, child in module.named_modules()}
    module.eval()
    try:
        yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]


def batch_of(module: Any, images: list[Image]) -> tuple[ImageList, dict[str, Tensor]]:
    """Return the normalized, padded batch and the features of the backbone."""
    batch, _ = module.transform(images)
    features = module.backbone(batch.tensors)
    return batch, features


def one_based(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Return targets for heads that reserve label 0 for the background."""
    return [{**target, "labels": target["labels"] + 1} for target in targets]


def with_weight(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """Return the output of a last layer whose weight is replaced, in the precision of the weight.

    Under autocast the layers below compute in bfloat16, which has 256 steps between two powers of two. A last layer
    does not: scores rounded so coarsely would tie.
    """
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x.to(weight.dtype),))
    return result


def by_location(level: Tensor, width: int) -> Tensor:
    """Reshape the output of a last layer from `[n, anchors x width, h, w]` to `[n, h x w x anchors, width]`."""
    n, _, rows, columns = level.shape
    return level.reshape(n, -1, width, rows, columns).permute(0, 3, 4, 1, 2).reshape(n, -1, width)


def pooled_levels(levels: Sequence[Tensor]) -> Tensor:
    """Return the mean over height and width `[levels, n, c]` of feature maps `[n, c, h, w]`."""
    return torch.stack([level.mean(dim=(2, 3)) for level in levels])


def pool_regions(
    module: nn.Module, strides: Mapping[str, int], images: list[Image], boxes: list[Tensor], cells: int = 7
) -> list[Tensor]:
    """Return RoIAlign over levels with these strides, averaged over its cells: one `[n, channels]` per image."""
    with evaluating(module):
        batch, features = batch_of(module, images)
        pool = RegionPooling(strides, output_size=cells, sampling_ratio=2)
        pooled = pool(features, boxes, batch.image_sizes).mean(dim=(2, 3))
    return list(pooled.split([len(b) for b in boxes]))
