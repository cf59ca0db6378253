"""Backbones with a feature pyramid, and their initial weights."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from alloop.detectors.torchvision.classifiers import (
    STRIDES,
    build_classifier,
    classifier_names,
    compute_as_evaluated,
    freeze_norms,
    stages_of,
)
from alloop.detectors.torchvision.frozen_layers import StagedBackbone, StagedPyramid
from alloop.detectors.torchvision.initial_weights import SHIPPED, InitialWeights
from alloop.detectors.torchvision.published import COCO
from alloop.detectors.torchvision.weight_files import load_weights
from alloop.errors import ConfigError, nearest

__all__ = ["NAMES", "SHIPPED", "Pyramid", "TinyBackbone", "build_backbone", "build_c4_backbone", "load_weights"]


@dataclass(frozen=True, slots=True)
class Pyramid:
    """A backbone module, the strides of the levels it returns, finest first, and the weights that it was built with."""

    module: nn.Module
    strides: tuple[int, ...]
    levels: tuple[str, ...]
    initial: InitialWeights


class TinyBackbone(nn.Module):
    """Four convolution stages of 16 to 128 channels, joined top-down into one level at stride 4.

    It trains on 64-pixel scenes in seconds on a CPU.
    """

    def __init__(self, out_channels: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        widths = (16, 32, 64, 128)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), norm(o), nn.ReLU(inplace=True))
            for i, o in zip((3, *widths), widths, strict=False)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(width, out_channels, 1) for width in widths[1:])
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return `{"0": [n, out_channels, h/4, w/4]}` from images `[n, 3, h, w]`."""
        stages = []
        for step in self.body:
            x = step(x)
            stages.append(x)
        merged: Tensor | None = None
        for lateral, stage in zip(reversed(self.lateral), reversed(stages[1:]), strict=True):
            level = lateral(stage)
            if merged is not None:
                level = level + nn.functional.interpolate(merged, size=level.shape[-2:], mode="nearest")
            merged = level
        assert merged is not None
        return {"0": merged}


_RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
# module index of the last block at strides 8, 16, 32
_MOBILENETS = {"mobilenet_v2": (6, 13, 17), "mobilenet_v3_large": (6, 12, 15), "mobilenet_v3_small": (3, 8, 11)}
NAMES = ("tiny", *_MOBILENETS, *_RESNETS)


def build_backbone(
    name: str, weights: str | InitialWeights, channels: int, trainable_stages: int | None, *, two_stage: bool
) -> Pyramid:
    """Build a backbone with its pyramid; its batch norm is frozen if it has pretrained weights, else trained.

    Args:
        name: one of `NAMES`, or of `alloop.detectors.torchvision.classifiers.classifier_names`.
        weights: `none`, `imagenet`, `digits` (shipped, tiny only), or a file. With `coco`, or with the file of a whole
            detector, the backbone is built as with `imagenet`, and its caller lets `Pyramid.initial` load the detector.
        channels: width of the pyramid.
        trainable_stages: number of last stages to train; None for all but the first two with pretrained weights.
        two_stage: whether a Faster R-CNN uses it. All but MobileNets then start at stride 4, not 8, and the extra level
            is pooled; otherwise the extra levels are P6 and P7, and MobileNets have none.

    Raises:
        ConfigError: unknown name, weights that do not exist, cannot be fetched, or do not fit.
    """
    known = (*NAMES, *classifier_names())
    if name not in known:
        close = get_close_matches(name, known, n=4)
        found = f" (did you mean {', '.join(map(repr, close))}?)" if close else nearest(name, known)
        msg = f"detector.backbone: {name!r} is unknown{found}"
        raise ConfigError(msg)
    initial = InitialWeights(weights) if isinstance(weights, str) else weights
    norm: Any = FrozenBatchNorm2d if initial.pretrained else nn.BatchNorm2d
    if name == "tiny":
        if initial.name == "imagenet":
            msg = "detector.weights: there are no ImageNet weights for the tiny backbone; use none, digits or a file"
            raise ConfigError(msg)
        tiny = TinyBackbone(channels, norm)
        initial.into_backbone(tiny, name)
        return Pyramid(tiny, (4,), ("0",), initial)
    if initial.name == "digits":
        msg = f"detector.weights: 'digits' is for the tiny backbone, not for {name}; use none, imagenet or a file"
        raise ConfigError(msg)
    if name not in NAMES:
        return _classifier(name, initial, channels, trainable_stages, two_stage=two_stage)
    build = _resnet if name in _RESNETS else _mobilenet
    return build(name, initial, channels, trainable_stages, norm, two_stage=two_stage)


def _resnet(
    name: str, initial: InitialWeights, channels: int, trainable: int | None, norm: Any, *, two_stage: bool
) -> Pyramid:
    body = torchvision.models.get_model(name, weights=None, norm_layer=norm)
    initial.into_backbone(body, name)
    stages = [[body.conv1, body.bn1], [body.layer1], [body.layer2], [body.layer3], [body.layer4]]
    _freeze(stages, trainable, pretrained=initial.pretrained)
    first = 1 if two_stage else 2
    widths = {f"layer{k}": body.inplanes // 2 ** (4 - k) for k in range(first, 5)}
    return _pyramid(body, widths, channels, initial, two_stage=two_stage)


def _classifier(
    name: str, initial: InitialWeights, channels: int, trainable: int | None, *, two_stage: bool
) -> Pyramid:
    whole = build_classifier(name)
    initial.into_backbone(whole, name)
    if initial.pretrained:
        freeze_norms(whole)
    stages = stages_of(whole)
    _freeze(stages.groups(), trainable, pretrained=initial.pretrained)
    ends = [stages.last_at(stride) for stride in (STRIDES if two_stage else STRIDES[1:])]
    widths = {end: stages.widths[end] for end in ends}
    return _pyramid(nn.Sequential(stages.modules), widths, channels, initial, two_stage=two_stage)


def _pyramid(
    body: nn.Module, widths: Mapping[str, int], channels: int, initial: InitialWeights, *, two_stage: bool
) -> Pyramid:
    """Build the pyramid of a ResNet or the like on stages of these names and widths, the finest first."""
    levels = tuple(str(k) for k in range(len(widths)))
    extra: ExtraFPNBlock = LastLevelMaxPool() if two_stage else LastLevelP6P7(channels, channels)
    module = StagedPyramid(body, dict(zip(widths, levels, strict=True)), list(widths.values()), channels, extra)
    module.count_frozen()
    if two_stage:
        return Pyramid(module, (4, 8, 16, 32, 64), (*levels, "pool"), initial)
    return Pyramid(module, (8, 16, 32, 64, 128), (*levels, "p6", "p7"), initial)


class _FourthStage(StagedBackbone):
    """A ResNet up to its fourth stage (layer3), one level at stride 16: `{"0": [n, out_channels, h/16, w/16]}`."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(body.conv1, body.bn1, body.relu, body.maxpool, body.layer1, body.layer2, body.layer3)
        self.out_channels = int(body.layer4[0].conv1.in_channels)
        self.count_frozen()

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the children of the ResNet that are used."""
        return list(self.body.named_children())

    def level_names(self) -> Mapping[str, str]:
        """Return the name of the one level."""
        return {self.stages()[-1][0]: "0"}

    def joined(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the level."""
        return levels


def build_c4_backbone(name: str, initial: InitialWeights, trainable: int | None) -> tuple[Pyramid, nn.Module, int]:
    """Return a ResNet below its last stage, the last stage, and the number of channels of its output.

    Raises:
        ConfigError: not a ResNet, or weights that do not exist or do not fit.
    """
    if name not in _RESNETS:
        msg = f"detector.backbone: a C4 detector is built on a ResNet, one of {', '.join(_RESNETS)}, found {name!r}"
        raise ConfigError(msg)
    if initial.name == COCO:
        msg = "detector.weights: torchvision publishes no COCO weights of a C4 detector, found 'coco'; use imagenet"
        raise ConfigError(msg)
    norm = FrozenBatchNorm2d if initial.pretrained else nn.BatchNorm2d
    body = torchvision.models.get_model(name, weights=None, norm_layer=norm)
    initial.into_backbone(body, name)
    stages = [[body.conv1, body.bn1], [body.layer1], [body.layer2], [body.layer3], [body.layer4]]
    _freeze(stages, trainable, pretrained=initial.pretrained)
    return Pyramid(_FourthStage(body), (16,), ("0",), initial), body.layer4, int(body.fc.in_features)


class _NoExtra(ExtraFPNBlock):  # type: ignore[misc]
    """A pyramid that ends at stride 32."""

    def forward(self, results: list[Tensor], _x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        """Return the levels as they are."""
        return results, names


def _mobilenet(
    name: str, initial: InitialWeights, channels: int, trainable: int | None, norm: Any, *, two_stage: bool
) -> Pyramid:
    whole = torchvision.models.get_model(name, weights=None, norm_layer=norm)
    initial.into_backbone(whole, name)
    body, ends = whole.features, _MOBILENETS[name]
    bounds = (0, ends[0] // 2 + 1, ends[0] + 1, ends[1] + 1, ends[2] + 1)
    _freeze([[*body[a:b]] for a, b in itertools.pairwise(bounds)], trainable, pretrained=initial.pretrained)
    with torch.no_grad():
        probe, widths = torch.zeros(1, 3, 64, 64), []
        body.eval()
        for index, block in enumerate(body[: ends[2] + 1]):
            probe = block(probe)
            if index in ends:
                widths.append(probe.shape[1])
        body.train()
    layers = {str(end): str(k) for k, end in enumerate(ends)}
    extra: ExtraFPNBlock = LastLevelMaxPool() if two_stage else _NoExtra()
    module = StagedPyramid(body, layers, widths, channels, extra)
    module.count_frozen()
    if two_stage:
        return Pyramid(module, (8, 16, 32, 64), ("0", "1", "2", "pool"), initial)
    return Pyramid(module, (8, 16, 32), ("0", "1", "2"), initial)


def _freeze(stages: list[list[nn.Module]], trainable: int | None, *, pretrained: bool) -> None:
    """Freeze all but the last `trainable` stages; None freezes the first two of pretrained backbones."""
    if trainable is None:
        trainable = len(stages) - 2 if pretrained else len(stages)
    for stage in stages[: max(0, len(stages) - trainable)]:
        for module in stage:
            module.requires_grad_(requires_grad=False)
            compute_as_evaluated(module)
