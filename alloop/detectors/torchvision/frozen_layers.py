"""The frozen stages at the beginning of a backbone: their features can stand for an image.

No training changes these stages, so what they make of an image is computed once. Here each image is computed alone,
so the features depend on the image and on the weights and on nothing else.
"""

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from alloop.detectors.protocol import FrozenFeatures
from alloop.detectors.torchvision.folding import fold_norms

_TRAINED_IN_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # noqa: SLF001  both bases


@dataclass(frozen=True, slots=True)
class FrozenBatch:
    """The features of several images, in place of a batch of pixels.

    Attributes:
        maps: `[batch, c, h, w]` each, zero where an image is smaller than the largest.
        shape: `(batch, 3, height, width)` of the batch of pixels, with its padding.
    """

    maps: tuple[Tensor, ...]
    shape: torch.Size

    @classmethod
    def of(cls, images: Sequence[FrozenFeatures], size_divisible: int) -> "FrozenBatch":
        """Join the features of images whose padded sides are multiples of `size_divisible`."""
        sides = [max(image.shape[axis] for image in images) for axis in (1, 2)]
        height, width = (-(-side // size_divisible) * size_divisible for side in sides)
        maps = tuple(_stacked(level) for level in zip(*(image.maps for image in images), strict=True))
        return cls(maps, torch.Size((len(images), 3, height, width)))


def _stacked(maps: Sequence[Tensor]) -> Tensor:
    """Stack maps `[c, h, w]`, with zeros below and to the right of the smaller ones, in channels-last format."""
    height, width = max(m.shape[1] for m in maps), max(m.shape[2] for m in maps)
    padded = [pad(m, (0, width - m.shape[2], 0, height - m.shape[1])) for m in maps]
    return torch.stack(padded).contiguous(memory_format=torch.channels_last)


class StagedBackbone(nn.Module, ABC):
    """A backbone whose stages are called one after the other, so that it can begin behind its frozen ones.

    Subclasses say which stages there are, which of them give levels, and how levels are joined.

    Attributes:
        frozen: the number of stages at the beginning that no training changes, as `count_frozen` found them.
    """

    frozen: int = 0

    @abstractmethod
    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the stages by name, in order."""

    @abstractmethod
    def level_names(self) -> Mapping[str, str]:
        """Return the names of the levels by the names of the stages that give them."""

    @abstractmethod
    def joined(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the backbone returns from the outputs of its stages."""

    def count_frozen(self) -> None:
        """Find the frozen stages; call it once the weights that are not trained are marked."""
        stages = [stage for _, stage in self.stages()]
        count = next((k for k, stage in enumerate(stages) if _is_trained(stage)), len(stages))
        self.frozen = count if any(stage.state_dict() for stage in stages[:count]) else 0

    def frozen_names(self) -> list[str]:
        """Return the names of the frozen stages whose outputs are needed later: those with a level, and the last."""
        names = [name for name, _ in self.stages()[: self.frozen]]
        return [name for name in names if name in self.level_names() or name == names[-1]]

    def forward(self, x: Any) -> dict[str, Tensor]:
        """Return the levels of a batch of pixels `[n, 3, h, w]`, or of a `FrozenBatch`."""
        levels: dict[str, Tensor] = {}
        first = 0
        if isinstance(x, FrozenBatch):
            names, first = self.frozen_names(), self.frozen
            outputs = dict(zip(names, x.maps, strict=True))
            levels = {level: outputs[name] for name, level in self.level_names().items() if name in outputs}
            x = outputs[names[-1]]
        for name, stage in self.stages()[first:]:
            x = stage(x)
            if name in self.level_names():
                levels[self.level_names()[name]] = x
        return self.joined(levels)


def _is_trained(stage: nn.Module) -> bool:
    """Return whether training changes what a stage computes."""
    changes = any(isinstance(module, _TRAINED_IN_TRAINING) for module in stage.modules())
    return changes or any(parameter.requires_grad for parameter in stage.parameters())


class StagedPyramid(StagedBackbone, BackboneWithFPN):  # type: ignore[misc]
    """Torchvision's backbone with a feature pyramid, which can begin behind its frozen stages."""

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the children of torchvision's body, in order."""
        body: Any = self.body
        return list(body.items())

    def level_names(self) -> Mapping[str, str]:
        """Return the names that torchvision's body gives to the levels."""
        body: Any = self.body
        names: Mapping[str, str] = body.return_layers
        return names

    def joined(self, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the pyramid."""
        fpn: Any = self.fpn
        pyramid: dict[str, Tensor] = fpn(levels)
        return pyramid


class TorchvisionFrozenLayers:
    """The frozen stages of a torchvision detector's backbone (`alloop.detectors.protocol.FrozenLayers`)."""

    def __init__(self, model: Any) -> None:
        """Copy the stages of a model, with their norms folded into the convolutions."""
        backbone: StagedBackbone = model.backbone
        self._transform, self._names = model.transform, set(backbone.frozen_names())
        stages = nn.ModuleDict(dict(backbone.stages()[: backbone.frozen]))
        self.sha256 = _sha256(stages, f"{self._transform} {sorted(self._names)}")
        self._stages = fold_norms(copy.deepcopy(stages)).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> FrozenFeatures:
        """Return the features of one image, computed in float32 and padded as a batch of it alone."""
        with torch.autocast(image.device.type, enabled=False):
            x = self._transform([image])[0].tensors.contiguous(memory_format=torch.channels_last)
            maps = []
            for name, stage in self._stages.items():
                x = stage(x)
                if name in self._names:
                    maps.append(x[0].contiguous())
        return FrozenFeatures(tuple(maps), (3, int(image.shape[1]), int(image.shape[2])))


def frozen_layers_of(model: Any) -> TorchvisionFrozenLayers | None:
    """Return the frozen layers of a torchvision detector; None where its first stage is trained."""
    backbone = model.backbone
    return TorchvisionFrozenLayers(model) if isinstance(backbone, StagedBackbone) and backbone.frozen else None


def _sha256(stages: nn.Module, transform: str) -> str:
    """Return the hash of the layers as text, of the transform before them, and of every weight."""
    digest = hashlib.sha256(f"{transform}\n{stages}".encode())
    for name, tensor in sorted(stages.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
