"""Image classifiers as modules: normalised pixels, stages, pooled features and one last linear layer.

`tiny` is for images of a few pixels, such as the embedded digits. `resnet18` and the other ResNets have the stem of
their paper for images from 64 pixels on, and that of CIFAR for smaller ones: a 3 x 3 convolution without stride, and no
pooling (He et al. 2016, section 4.2; ISAL's classifier is such a ResNet-18).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torchvision
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.image_list import ImageList

Stem = Literal["cifar", "imagenet"]
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
TINY_WIDTHS = (16, 32, 64)
MEAN, STD = 0.5, 0.25  # of pixels, about those of any photographs; batch norm takes care of the rest


class StagedClassifier(nn.Module):
    """Stages, whose outputs are pooled, and a last linear layer.

    Attributes:
        backbone: returns the output of each stage.
        head: the last linear layer.
        image_size: side of the square that images are scaled to; None where they all have one size.
    """

    image_size: int | None = None

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], widths: Sequence[int], classes: int) -> None:
        super().__init__()
        self.backbone = StageOutputs(stem, stages, widths)
        self.head = nn.Linear(widths[-1], classes)

    def batch(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> Float[Tensor, "n 3 h w"]:
        """Return images as one tensor; one that is no square of `image_size` is stretched to it."""
        return torch.stack([self._square(image) for image in images])

    def _square(self, image: Float[Tensor, "3 _ _"]) -> Float[Tensor, "3 h w"]:
        size = self.image_size
        if size is None or image.shape[1:] == (size, size):
            return image
        stretched = functional.interpolate(image[None], (size, size), mode="bilinear", antialias=True)
        return stretched[0]

    def transform(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> tuple[ImageList, None]:
        """Return what the backbone reads, as the transform of a torchvision detector does."""
        batch = self.normalised(self.batch(images))
        return ImageList(batch, [(batch.shape[2], batch.shape[3])] * len(images)), None

    def normalised(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Return pixels of 0..1 in the units that the first layer reads."""
        return (images - MEAN) / STD

    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Return what the last layer reads: the output of the last stage, averaged over its cells."""
        maps: dict[str, Tensor] = self.backbone(self.normalised(images))
        return maps[self.backbone.names[-1]].mean(dim=(2, 3))

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of each class."""
        logits: Tensor = self.head(self.features(images))
        return logits


class StageOutputs(nn.Module):
    """A stem and stages, one after the other.

    Attributes:
        names: of the stages.
        widths: their numbers of channels.
    """

    def __init__(self, stem: nn.Module, stages: Sequence[nn.Module], widths: Sequence[int]) -> None:
        super().__init__()
        self.stem, self.stages = stem, nn.ModuleList(stages)
        self.names, self.widths = tuple(str(k) for k in range(len(stages))), tuple(widths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of each stage by its name."""
        x = self.stem(x)
        maps = {}
        for name, stage in zip(self.names, self.stages, strict=True):
            x = stage(x)
            maps[name] = x
        return maps


def build_tiny(classes: int) -> StagedClassifier:
    """Build three convolution stages of 16, 32 and 64 channels; the last two halve the image."""
    strides = (1, 2, 2)
    stages = [
        nn.Sequential(nn.Conv2d(i, o, 3, stride=s, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True))
        for i, o, s in zip((3, *TINY_WIDTHS), TINY_WIDTHS, strides, strict=False)
    ]
    return StagedClassifier(nn.Identity(), stages, TINY_WIDTHS, classes)


def build_resnet(name: str, classes: int, stem: Stem) -> StagedClassifier:
    """Build a ResNet of torchvision, with its own stem or that of CIFAR."""
    body: Any = torchvision.models.get_model(name, weights=None)
    if stem == "cifar":
        first = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
        beginning = nn.Sequential(first, body.bn1, body.relu)
    else:
        beginning = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool)
    expansion = body.fc.in_features // 512
    widths = [64 * expansion, 128 * expansion, 256 * expansion, 512 * expansion]
    return StagedClassifier(beginning, [body.layer1, body.layer2, body.layer3, body.layer4], widths, classes)
