"""Train a detector for one round; go on from a checkpoint as if nothing had happened.

What a step teaches is up to the lessons: labeled images alone, or also unlabeled ones (`semi_supervised`).
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from alloop.config.blocks import TrainingConfig
from alloop.detectors.loss_prediction import NAME as LOSS_PREDICTION
from alloop.detectors.protocol import Detector
from alloop.detectors.seeding import seeded
from alloop.errors import TrainingError
from alloop.randomness import derive_seed
from alloop.training.batches import TrainingBatches
from alloop.training.schedule import lr_at
from alloop.values import ImageId


@runtime_checkable
class CheckpointStore(Protocol):
    """Where a training leaves off and goes on, and where states along it are kept."""

    snapshot_steps: tuple[int, ...]

    def load(self) -> bytes | None:
        """The last recorded state, if any."""

    def save(self, state: bytes, step: int) -> None:
        """Record a state; the one before may then be dropped."""

    def snapshot(self, weights: bytes, step: int) -> None:
        """Keep the weights after one of `snapshot_steps`."""


class NoCheckpoints:
    """For trainings too short to be worth resuming."""

    snapshot_steps: tuple[int, ...] = ()

    def load(self) -> None:
        """Always from the start."""

    def save(self, state: bytes, step: int) -> None:
        """Nothing is kept."""

    def snapshot(self, weights: bytes, step: int) -> None:
        """Nothing is kept."""


@runtime_checkable
class TrainingObjective(Protocol):
    """What is taught at each step."""

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """Before the first step, also after a stop: the averaged weights, which the training keeps in place."""

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """The loss terms of a step, split by image, and the ids of its images."""

    def end_step(self, step: int) -> None:
        """After the weights were updated."""

    def state(self) -> dict[str, Tensor]:
        """What the next steps depend on besides weights and step number."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state."""


class SupervisedObjective:
    """Labeled images alone."""

    def __init__(self, detector: Detector, batches: TrainingBatches) -> None:
        """Of a detector and its batches."""
        self._detector, self._batches = detector, batches

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """The average is not needed."""

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """The detector's own losses."""
        images, targets, ids = self._batches(step)
        return self._detector.losses(images, targets), ids

    def end_step(self, step: int) -> None:
        """Nothing is left to do."""

    def state(self) -> dict[str, Tensor]:
        """A batch is a function of the step number alone."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Steps done, seconds spent in this process, and the last batch loss."""

    steps: int
    seconds: float
    last_loss: float


def make_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over what is not frozen; a loss prediction module is a group of its own."""
    free = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    beside = [p for name, p in free if name.startswith(f"{LOSS_PREDICTION}.")]
    own = [p for name, p in free if not name.startswith(f"{LOSS_PREDICTION}.")]
    groups = [{"params": group} for group in (own, beside) if group]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)


class WeightAverage:
    """Exponential moving average of all floating tensors; early steps weigh less, so it is never stale."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self.tensors = {k: v.detach().clone() for k, v in module.state_dict().items()} if decay else {}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these values, in place."""
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Fold in the weights after `step`."""
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

    def weights_of(self, module: nn.Module) -> bytes:
        """The weights that would be evaluated now."""
        return _as_bytes(self.tensors or module.state_dict())

    def apply(self, module: nn.Module) -> None:
        """Give the module the averaged weights."""
        if self._decay:
            module.load_state_dict(self.tensors)


def train(
    detector: Detector,
    lessons: TrainingObjective,
    config: TrainingConfig,
    *,
    steps: int,
    random_seed: int,
    round_: int,
    device: torch.device,
    store: CheckpointStore,
    progress: Callable[[int, float], None],
) -> TrainingResult:
    """Train to the end of the schedule and leave the final (or averaged) weights in the detector.

    Raises:
        TrainingError: a loss that is not finite, with the image ids of that batch.
    """
    module = detector.module
    module.to(device).train()
    if device.type == "cuda" and config.channels_last:
        module.to(memory_format=torch.channels_last)
    optimizer = make_optimizer(module, config)
    average = WeightAverage(module, config.ema)
    first = _restore(store.load(), module, optimizer, average, lessons)
    lessons.begin(average.tensors)
    started = saved = time.monotonic()
    loss_value = 0.0
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr_at(config, step, steps)
        seed = derive_seed(random_seed, round_, "step", step)
        loss_value = _step(lessons, optimizer, config, step, seed, on_cuda=device.type == "cuda")
        average.update(module, step)
        lessons.end_step(step)
        progress(step + 1, loss_value)
        if step + 1 in store.snapshot_steps:
            store.snapshot(average.weights_of(module), step + 1)
        if step + 1 < steps and time.monotonic() - saved >= config.checkpoint_seconds:
            store.save(_state(module, optimizer, average, lessons, step + 1), step + 1)
            saved = time.monotonic()
    average.apply(module)
    return TrainingResult(steps, time.monotonic() - started, loss_value)


def _step(
    lessons: TrainingObjective,
    optimizer: torch.optim.Optimizer,
    config: TrainingConfig,
    step: int,
    seed: int,
    *,
    on_cuda: bool,
) -> float:
    """One update; returns the loss."""
    amp = torch.autocast("cuda", torch.bfloat16) if on_cuda and config.amp else nullcontext()
    with seeded(seed), amp:
        terms, ids = lessons(step)
        loss = torch.stack([term.sum() for term in terms.values()]).sum()
    value = float(loss.detach())
    if not abs(value) < float("inf"):
        values = {name: float(term.detach().sum()) for name, term in terms.items()}
        msg = (
            f"training: the loss at step {step} is not finite ({values}); images of this batch: {sorted(set(ids))}. "
            "Look at their boxes, lower training.lr, or set training.clip_norm."
        )
        raise TrainingError(msg)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if config.clip_norm is not None:
        for group in optimizer.param_groups:  # each by itself: what stands beside the detector must not change it
            torch.nn.utils.clip_grad_norm_(group["params"], config.clip_norm)
    optimizer.step()
    return value


def _state(
    module: nn.Module, optimizer: torch.optim.Optimizer, average: WeightAverage, lessons: TrainingObjective, step: int
) -> bytes:
    """Everything the next step depends on, as safetensors; scalars travel as JSON in its header."""
    tensors: dict[str, Tensor] = {f"model.{k}": v for k, v in module.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in average.tensors.items()}
    tensors |= {f"lessons.{k}": v for k, v in lessons.state().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items() if isinstance(v, Tensor)}
    stored = {key: value.detach().contiguous().clone() for key, value in tensors.items()}
    return save_safetensors(stored, metadata={"alloop": json.dumps({"step": step})})


def _restore(
    data: bytes | None,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: WeightAverage,
    lessons: TrainingObjective,
) -> int:
    """Load a state into place; returns the step to go on with."""
    if data is None:
        return 0
    tensors = load_safetensors(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    step = int(json.loads(header["__metadata__"]["alloop"])["step"])
    module.load_state_dict(_under("model.", tensors))
    average.restore(_under("ema.", tensors))
    lessons.restore(_under("lessons.", tensors))
    tree: dict[str, Any] = optimizer.state_dict()
    tree["state"] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, _, name = key.partition(".")
        tree["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(tree)
    return step


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def weights_of(module: nn.Module) -> bytes:
    """The final weights as safetensors."""
    return _as_bytes(module.state_dict())


def _as_bytes(tensors: dict[str, Tensor]) -> bytes:
    return save_safetensors({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()})


def load_weights_of(module: nn.Module, data: bytes) -> None:
    """Put stored weights back."""
    module.load_state_dict(load_safetensors(data))
