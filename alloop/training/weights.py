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
        self.tensors = {name: t.detach().clone() for name, t in module.state_dict().items()} if decay else {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy these values into the averaged tensors, in place."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Fold in the module's weights after `step`. Tensors of whole numbers are copied."""
        if not self._decay:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        averaged, latest = [], []
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                averaged.append(self.tensors[name])
                latest.append(tensor.detach())
            else:
                self.tensors[name].copy_(tensor)
        torch._foreach_lerp_(averaged, latest, 1 - decay)

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
