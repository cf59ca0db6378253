"""The linear layer by which a two-stage detector classifies regions."""

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from alloop.detectors.region_protocol import BalancedDetector
from alloop.errors import TrainingError


def classification_layer(detector: BalancedDetector) -> nn.Linear:
    """Return the layer that gives the logits of regions.

    Raises:
        TrainingError: the layer that the detector names is not linear or has no bias.
    """
    layer = detector.module.get_submodule(detector.classification_layer)
    if not isinstance(layer, nn.Linear) or layer.bias is None:
        msg = (
            f"training.class_balance: expected {detector.classification_layer!r}, which the detector names as its "
            f"`classification_layer`, to be a linear layer with a bias, found {layer}; correct the name"
        )
        raise TrainingError(msg)
    return layer


def class_rows(detector: BalancedDetector) -> Int64[Tensor, " k"]:
    """Return the rows of the layer that belong to classes, in label order."""
    layer = classification_layer(detector)
    rows = torch.arange(layer.out_features, device=layer.weight.device)
    return rows[rows != detector.background_row]
