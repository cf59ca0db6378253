"""Derivatives of a detector's losses in its last layers, by torch.func; nothing of size weights x weights exists."""

import warnings
from collections.abc import Callable, Mapping
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from alloop.detectors.protocol import LossOfWeights

Weights = Mapping[str, Tensor]


@cache
def _load_forward_mode() -> None:
    """Make torch compile its rules now: at the first tangent it warns about deprecated code of its own."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))  # type: ignore[no-untyped-call]


def _gradient_of(loss: LossOfWeights) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Return the gradient of the batch's summed loss as a function of the weights."""

    def total(weights: dict[str, Tensor]) -> Tensor:
        return loss(weights).sum()

    result: Callable[[dict[str, Tensor]], dict[str, Tensor]] = torch.func.grad(total)
    return result


def gradient(loss: LossOfWeights, weights: Weights) -> dict[str, Tensor]:
    """Return the gradient of the batch's summed loss, by one reverse pass."""
    with torch.no_grad():
        return _gradient_of(loss)(dict(weights))


def curvature_product(loss: LossOfWeights, weights: Weights, vector: Weights) -> dict[str, Tensor]:
    """Return the Hessian of the batch's summed loss times a vector, by forward mode over the reverse pass.

    Source: Pearlmutter 1994.
    """
    _load_forward_mode()
    with torch.no_grad():
        product = torch.func.jvp(_gradient_of(loss), (dict(weights),), ({name: vector[name] for name in weights},))[1]
    result: dict[str, Tensor] = product
    return result


def curvature(loss: LossOfWeights, weights: Weights) -> Callable[[Weights], dict[str, Tensor]]:
    """Return the function that multiplies vectors with the Hessian of `curvature_product`.

    The Hessian is symmetric, so pulling a vector back through the gradient multiplies it with the Hessian. The
    graph of the gradient is made once and kept: each product is then one pass through it.
    """
    with torch.no_grad():
        pull = torch.func.vjp(_gradient_of(loss), dict(weights))[1]

    def product(vector: Weights) -> dict[str, Tensor]:
        with torch.no_grad():
            result: dict[str, Tensor] = pull({name: vector[name] for name in weights})[0]
        return result

    return product


def slopes(loss: LossOfWeights, weights: Weights, direction: Weights) -> Float[Tensor, " batch"]:
    """Return the derivative of each image's loss along a direction, by one forward pass with a tangent."""
    return with_slopes(loss, weights, direction)[1]


def with_slopes(
    function: Callable[[Weights], Tensor], weights: Weights, direction: Weights
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Return what a function of the weights is, and its derivative along a direction, by one pass with a tangent."""
    _load_forward_mode()
    with torch.no_grad():
        both = torch.func.jvp(function, (dict(weights),), ({name: direction[name] for name in weights},))
    return both[0], both[1]
