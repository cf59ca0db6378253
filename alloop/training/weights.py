"""The weights of a module: their moving average, and their form as safetensors."""

from collections.abc import Mapping

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn


class WeightAverage:
    """The exponential moving average of a module's floating-point tensors.

    The decay of step t is min(decay, (1 + t) / (10 + t)), so the average follows the first steps closely. With a decay
    of 0 nothing is averaged and `tensors` is empty.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        latest = module.state_dict() if decay else {}
        self.tensors = {name: tensor.detach().clone() for name, tensor in latest.items()}
        # a module's tensors are changed in place and never replaced, so they are looked up once
        pairs = [(tensor, latest[name]) for name, tensor in self.tensors.items()]
        self._averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy these values into the averaged tensors, in place."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Fold in the module's weights after `step`. Tensors of whole numbers are copied."""
        if not self._decay:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, latest = zip(*self._averaged, strict=True)
        torch._foreach_lerp_(averages, latest, 1 - decay)
        for copied, tensor in self._copied:
            copied.copy_(tensor)

    def to_bytes(self, module: nn.Module) -> bytes:
        """Return as safetensors what `apply` would give the module; its own weights where nothing is averaged."""
        return _to_bytes(self.tensors or module.state_dict())

    def apply(self, module: nn.Module) -> None:
        """Give the module the averaged weights."""
        if self._decay:
            module.load_state_dict(self.tensors)


def weights_of(module: nn.Module) -> bytes:
    """Return the module's weights as safetensors."""
    return _to_bytes(module.state_dict())


def load_weights_of(module: nn.Module, data: bytes) -> None:
    """Load weights that `weights_of` returned."""
    module.load_state_dict(load_safetensors(data))


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return save_safetensors({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
