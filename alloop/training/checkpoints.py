"""The state of a training between two steps, and where it is stored."""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from alloop.training.loss_history import LossHistory
from alloop.training.objective import TrainingObjective
from alloop.training.weights import WeightAverage

# Prefixes of the stored tensors. Runs of earlier versions call the objective "lessons"; the name stays.
_MODEL = "model."
_AVERAGE = "ema."
_OBJECTIVE = "lessons."
_OPTIMIZER = "optimizer."


@runtime_checkable
class CheckpointStore(Protocol):
    """Where checkpoints and snapshots of one training are stored.

    `snapshot_steps` are the numbers of finished steps after which `snapshot` is called.
    """

    snapshot_steps: tuple[int, ...]

    def load(self) -> bytes | None:
        """Return the last recorded checkpoint, or None."""

    def save(self, state: bytes, step: int) -> None:
        """Record a checkpoint after `step` finished steps; the one before may then be dropped."""

    def snapshot(self, weights: bytes, step: int) -> None:
        """Keep the weights after `step` finished steps."""


class NoCheckpoints:
    """A store that keeps nothing, for trainings too short to be worth resuming."""

    snapshot_steps: tuple[int, ...] = ()

    def load(self) -> None:
        """Return None: every training starts anew."""

    def save(self, state: bytes, step: int) -> None:
        """Drop the checkpoint."""

    def snapshot(self, weights: bytes, step: int) -> None:
        """Drop the weights."""


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything the next step of a training depends on besides its number, and the losses until now."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage
    objective: TrainingObjective
    losses: LossHistory

    def to_bytes(self, step: int) -> bytes:
        """Return the state after `step` finished steps as safetensors, with number and losses as JSON in its header."""
        tensors = {f"{_MODEL}{name}": tensor for name, tensor in self.module.state_dict().items()}
        tensors |= {f"{_AVERAGE}{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors |= {f"{_OBJECTIVE}{name}": tensor for name, tensor in self.objective.state().items()}
        for index, values in self.optimizer.state_dict()["state"].items():
            tensors |= {f"{_OPTIMIZER}{index}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
        stored = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
        return save_safetensors(stored, metadata={"alloop": json.dumps({"step": step, "losses": self.losses.state()})})

    def restore(self, data: bytes | None) -> int:
        """Load what `to_bytes` returned, in place, and return its number of finished steps; 0 for None."""
        if data is None:
            return 0
        tensors = load_safetensors(data)
        self.module.load_state_dict(_with_prefix(_MODEL, tensors))
        self.average.restore(_with_prefix(_AVERAGE, tensors))
        self.objective.restore(_with_prefix(_OBJECTIVE, tensors))
        tree: dict[str, Any] = self.optimizer.state_dict()
        tree["state"] = {}
        for key, value in _with_prefix(_OPTIMIZER, tensors).items():
            index, _, name = key.partition(".")
            tree["state"].setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict(tree)
        self._lay_out_as_the_weights()
        header = _header_of(data)
        if "losses" in header:  # not in a checkpoint of an older version
            self.losses.restore(header["losses"])
        return int(header["step"])

    def _lay_out_as_the_weights(self) -> None:
        """Give restored tensors the memory format of their weights: a fused step takes all of them for flat arrays."""
        for weight, values in self.optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    values[name] = torch.empty_like(weight).copy_(value)


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with the prefix, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _header_of(data: bytes) -> dict[str, Any]:
    """Read our part of the header of a safetensors file: its length, then JSON."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    own: dict[str, Any] = json.loads(header["__metadata__"]["alloop"])
    return own
