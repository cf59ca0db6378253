"""Weights that torchvision publishes, from the cache of the torch hub: of backbones, and of whole detectors."""

import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import list_models
from torchvision.ops import FrozenBatchNorm2d

from alloop.errors import ConfigError

COCO = "coco"
# what torchvision's detectors of these names are built with; they have no other widths, anchors or levels
_FCOS = {"variant": "torchvision", "backbone": "resnet50", "channels": 256, "tower_convs": 4}
_RETINANET = {"backbone": "resnet50", "channels": 256, "anchor_size": 32}
_TWO_STAGE = {"backbone": "resnet50", "channels": 256, "anchor_size": 32, "head_width": 1024}
_ARCHITECTURES: Mapping[str, Mapping[str, object]] = {
    "fcos_resnet50_fpn": _FCOS,
    "retinanet_resnet50_fpn": _RETINANET,
    "fasterrcnn_resnet50_fpn": _TWO_STAGE,
    "maskrcnn_resnet50_fpn": _TWO_STAGE,
}
_TRAINED_WITHOUT_EPSILON = frozenset(_ARCHITECTURES) - {"fcos_resnet50_fpn"}
# the files of DenseNets were written when `norm1` of a layer was called `norm.1`
_OLDER_NAME = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
_HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")  # torchvision's file names end in the beginning of the sha256
# their numbers of outputs follow from the number of classes; Faster R-CNN predicts a box for each class
CLASS_LAYERS = (
    "head.classification_head.cls_logits",
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    "roi_heads.mask_predictor.mask_fcn_logits",
)


def imagenet(name: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of a classifier of torchvision.

    Raises:
        ConfigError: there are none, or the file is neither in the cache nor to be fetched.
    """
    entries = torchvision.models.get_model_weights(name).__members__
    if "IMAGENET1K_V1" not in entries:
        msg = f"detector.weights: torchvision publishes no IMAGENET1K_V1 weights of {name}; use none or a file"
        raise ConfigError(msg)
    state = _fetched(entries["IMAGENET1K_V1"], f"ImageNet weights of {name}")
    return {_OLDER_NAME.sub(r"\1\2", key): tensor for key, tensor in state.items()}


def published_as(sha256: str) -> str | None:
    """Return torchvision's name of the model that it publishes a file for; None for any other file.

    Torchvision tells the first 8 or 10 of the 64 digits of a hash, in the names of its files.
    """
    return next((name for start, name in _published_hashes().items() if sha256.startswith(start)), None)


@cache
def _published_hashes() -> dict[str, str]:
    entries = [(e.url, name) for name in list_models() for e in torchvision.models.get_model_weights(name)]
    return {match[1]: name for url, name in entries if (match := _HASH.search(url))}


def refuse_other_architecture(name: str, architecture: Mapping[str, object]) -> None:
    """Refuse COCO weights for a detector that is built in another way than the published one.

    Args:
        name: torchvision's name of the published detector.
        architecture: the values of those keys of `detector` that decide about the architecture.

    Raises:
        ConfigError: a value differs from the published detector's.
    """
    for key, expected in _ARCHITECTURES[name].items():
        if architecture[key] != expected:
            msg = (
                f"detector.{key}: the COCO weights that torchvision publishes as {name} belong to {expected!r}, found "
                f"{architecture[key]!r}. Set detector.{key} to {expected}, or detector.weights to imagenet."
            )
            raise ConfigError(msg)


def load_coco(model: nn.Module, name: str) -> None:
    """Load the COCO weights of a whole detector; layers whose size follows from the number of classes stay fresh.

    Norms then divide by the root of the variance alone where the published detector was trained so.

    Args:
        model: a detector with the parts of torchvision's.
        name: torchvision's name of the published detector.

    Raises:
        ConfigError: the file is neither in the cache nor to be fetched, or has other tensors than the detector.
    """
    entry = torchvision.models.get_model_weights(name)["COCO_V1"]
    published = _fetched(entry, f"COCO weights of {name}")
    state = OrderedDict(published)
    # torchvision renames the tensors of older files by this
    state._metadata = getattr(published, "_metadata", {})  # type: ignore[attr-defined]  # noqa: SLF001
    state.update({key: value for key, value in model.state_dict().items() if key.startswith(CLASS_LAYERS)})
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        msg = f"detector.weights: the COCO weights of {name} do not fit this detector: {error}"
        raise ConfigError(msg) from error
    divide_as_published(model, name)


def divide_as_published(model: nn.Module, name: str | None) -> None:
    """Let norms divide by the root of the variance alone, where the published model of this name was trained so."""
    for module in model.modules():
        if name in _TRAINED_WITHOUT_EPSILON and isinstance(module, FrozenBatchNorm2d):
            module.eps = 0.0


def _fetched(entry: Any, what: str) -> dict[str, Tensor]:
    file_name = entry.url.rsplit("/", 1)[-1]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        state: dict[str, Tensor] = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        msg = (
            f"detector.weights: {what} are not at {folder / file_name}, cannot be read there or could not be fetched "
            f"({error}). Put the file there, point TORCH_HOME at a folder that has hub/checkpoints/{file_name} "
            f"(now {os.environ.get('TORCH_HOME', 'not set')}), or set weights to none or to a safetensors file."
        )
        raise ConfigError(msg) from error
    return state
