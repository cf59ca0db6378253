"""Batch norms of fixed statistics as part of the convolutions before them.

In evaluation, and always where it is frozen, a batch norm multiplies each channel by a = weight / sqrt(variance + eps)
and adds b = bias - mean a. A convolution can do both: its weights are multiplied by a, and b is its bias. The function
and its gradients are the same but for rounding, and two passes over the features are saved.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torchvision.ops import FrozenBatchNorm2d

from alloop.detectors.protocol import Module


class _SilentNorm(FrozenBatchNorm2d):  # type: ignore[misc]
    """A frozen batch norm whose work the convolution before it does; it only keeps the statistics."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


class _NormedConv2d(nn.Conv2d):
    """A convolution that also does the work of the frozen batch norm behind it; its weights can be trained."""

    norm: tuple[Any]  # in a tuple, so that it stays a submodule of its own parent alone

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  torch's name
        """Return the normed output `[n, c, h, w]`."""
        factor, shift = _factor_and_shift(self.norm[0])
        weight = self.weight * factor[:, None, None, None]
        bias = shift if self.bias is None else shift + self.bias * factor
        return conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def absorb_frozen_norms(module: Module) -> Module:
    """Let convolutions do the work of the frozen batch norms behind them, in place; names of weights stay as they are.

    Modules are taken to be called in the order in which they were registered, as in torchvision's backbones.
    """
    for parent, name, norm_name in _pairs(module):
        convolution, norm = getattr(parent, name), getattr(parent, norm_name)
        if isinstance(norm, FrozenBatchNorm2d):
            convolution.__class__, norm.__class__ = _NormedConv2d, _SilentNorm
            convolution.norm = (norm,)
    return module


@torch.no_grad()
def fold_norms(module: Module) -> Module:
    """Compute the weights of convolutions with their batch norms folded in, in place, and return the module.

    It is then in eval mode and cannot be trained. Modules are taken to be called as for `absorb_frozen_norms`.
    """
    module.eval()
    for parent, name, norm_name in _pairs(module):
        _fold(getattr(parent, name), getattr(parent, norm_name))
        setattr(parent, norm_name, nn.Identity())
    return module.requires_grad_(requires_grad=False)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yield each module with the names of a convolution and of the batch norm that directly follows it."""
    for parent in list(module.modules()):
        for (name, child), (norm_name, norm) in itertools.pairwise(list(parent.named_children())):
            if isinstance(child, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
                yield parent, name, norm_name


def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    """Let a convolution compute what it and then the norm computed."""
    factor, shift = _factor_and_shift(norm)
    bias = shift if convolution.bias is None else shift + convolution.bias * factor
    convolution.__class__ = nn.Conv2d
    convolution.weight = nn.Parameter(convolution.weight * factor[:, None, None, None])
    convolution.bias = nn.Parameter(bias)


def _factor_and_shift(norm: Any) -> tuple[Tensor, Tensor]:
    """Return a and b of the formula above, one number per channel."""
    factor = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        factor = factor * norm.weight
    shift = -norm.running_mean * factor
    return factor, shift if norm.bias is None else shift + norm.bias
