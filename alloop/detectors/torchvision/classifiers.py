"""Torchvision's classifiers as backbones: their stages, and the strides at which these lie.

No list says which stage lies at which stride. The classifier is run once on a small image, and the sizes of what its
stages return tell it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import list_models
from torchvision.ops import FrozenBatchNorm2d, StochasticDepth

from alloop.detectors.torchvision.efficientnet_lite import NAME as LITE0
from alloop.detectors.torchvision.efficientnet_lite import EfficientNetLite0

STRIDES = (4, 8, 16, 32)
_FAMILIES = ("convnext_", "densenet", "efficientnet_", "regnet_", "shufflenet_")
_SIDE = 64  # of the small image; the last stage returns 2 by 2 cells of it


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages of a classifier in the order in which it calls them, each on what the one before returned.

    Attributes:
        modules: the stages by name.
        strides: the stride of each stage's output.
        widths: the channels of each stage's output.
    """

    modules: "OrderedDict[str, nn.Module]"
    strides: Mapping[str, int]
    widths: Mapping[str, int]

    def last_at(self, stride: int) -> str:
        """Return the name of the last stage of a stride."""
        return [name for name, of_stage in self.strides.items() if of_stage == stride][-1]

    def groups(self) -> list[list[nn.Module]]:
        """Return the stages in five groups, those below stride 4 first; they correspond to the stages of a ResNet."""
        below = STRIDES[0] // 2
        of_stage = {name: max(below, stride) for name, stride in self.strides.items()}
        return [[self.modules[name] for name in of_stage if of_stage[name] == stride] for stride in (below, *STRIDES)]


@cache
def classifier_names() -> tuple[str, ...]:
    """Return the names of the classifiers that can be a backbone, the ResNets and MobileNets left out."""
    return (*(name for name in list_models(module=torchvision.models) if name.startswith(_FAMILIES)), LITE0)


def build_classifier(name: str) -> nn.Module:
    """Build a classifier of one of these names, with random weights; EfficientNet-Lite0 ends below its last layers."""
    return EfficientNetLite0() if name == LITE0 else torchvision.models.get_model(name, weights=None)


def stages_of(classifier: nn.Module) -> Stages:
    """Run a classifier once on a black image of 64 by 64 pixels, and return its stages without its head.

    Raises:
        ValueError: it does not call its stages one after the other, or has none at one of the strides 4, 8, 16 and 32.
    """
    named = OrderedDict(_named_stages(classifier))
    shapes = _shapes(classifier, named)
    if _is_head(next(reversed(named.values()))):
        named.popitem()
    strides = {name: _SIDE // shapes[name][-1] for name in named}
    if not set(STRIDES) <= set(strides.values()):
        msg = f"expected stages at the strides {STRIDES}, found {sorted(set(strides.values()))}"
        raise ValueError(msg)
    return Stages(named, strides, {name: shapes[name][1] for name in named})


def _named_stages(classifier: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the stages by name, as far as the last layers of the classifier."""
    children: dict[str, nn.Module] = dict(classifier.named_children())
    if "features" in children:
        children = dict(children["features"].named_children())
    for name, child in children.items():
        if isinstance(child, nn.AdaptiveAvgPool2d | nn.Linear):
            return
        if name == "trunk_output":  # the four blocks of a RegNet
            yield from child.named_children()
        else:
            yield name, child


@torch.no_grad()
def _shapes(classifier: nn.Module, stages: Mapping[str, nn.Module]) -> dict[str, torch.Size]:
    """Return the shape of what each stage returns."""
    image = torch.zeros(1, 3, _SIDE, _SIDE, device=next(classifier.parameters()).device)
    last, shapes = image, dict[str, torch.Size]()

    def note(name: str, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal last
        if inputs[0] is not last or output.dim() != 4 or output.shape[2] != output.shape[3]:
            msg = f"expected stages that are called one after the other on maps of features, which {name} is not"
            raise ValueError(msg)
        last, shapes[name] = output, output.shape

    def hook(name: str) -> Any:
        return lambda _, inputs, output: note(name, inputs, output)

    hooks = [stage.register_forward_hook(hook(name)) for name, stage in stages.items()]
    classifier.eval()
    try:
        classifier(image)
    finally:
        classifier.train()
        for handle in hooks:
            handle.remove()
    return shapes


def _is_head(stage: nn.Module) -> bool:
    """Whether a last stage only widens the features for the classification: one convolution of 1 by 1."""
    convolutions = [module for module in stage.modules() if isinstance(module, nn.Conv2d)]
    return len(convolutions) == 1 and convolutions[0].kernel_size == (1, 1)


def freeze_norms(module: nn.Module) -> None:
    """Replace each batch norm inside a module by a frozen one of the same statistics and the same epsilon."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen: nn.Module = FrozenBatchNorm2d(child.num_features, child.eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)


def compute_as_evaluated(module: nn.Module) -> None:
    """Let a frozen stage compute the same in training as in evaluation: it drops none of its branches at random."""
    for part in module.modules():
        if isinstance(part, StochasticDepth):
            part.p = 0.0
