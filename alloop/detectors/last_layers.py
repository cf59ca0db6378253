"""Derivatives of a detector's losses in its last layers, by torch.func; nothing of size weights x weights exists."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from alloop.detectors.protocol import LossOfWeights

Weights = Mapping[str, Tensor]


def gradient(loss: LossOfWeights, weights: Weights) -> dict[str, Tensor]:
    """The gradient of the batch's summed loss: one reverse pass."""
    with torch.no_grad():
        result: dict[str, Tensor] = torch.func.grad(lambda w: loss(w).sum())(dict(weights))
    return result


def curvature_product(loss: LossOfWeights, weights: Weights, vector: Weights) -> dict[str, Tensor]:
    """The Hessian of the batch's summed loss times a vector: forward mode over the reverse pass (Pearlmutter 1994)."""
    with torch.no_grad():
        slope = torch.func.grad(lambda w: loss(w).sum())
        product = torch.func.jvp(slope, (dict(weights),), ({name: vector[name] for name in weights},))[1]
    result: dict[str, Tensor] = product
    return result


def slopes(loss: LossOfWeights, weights: Weights, direction: Weights) -> Float[Tensor, " batch"]:
    """The derivative of each image's loss along a direction: one forward pass with a tangent for the whole batch."""
    with torch.no_grad():
        tangent = torch.func.jvp(loss, (dict(weights),), ({name: direction[name] for name in weights},))[1]
    result: Tensor = tangent
    return result
