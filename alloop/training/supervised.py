"""Train a detector for one round, on labeled images or on any other objective.

A training that resumes from a checkpoint gives bit for bit the same weights as one that never stopped.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from alloop.config.training import TrainingConfig
from alloop.detectors.loss_prediction import NAME as LOSS_PREDICTION
from alloop.detectors.loss_prediction import training_losses
from alloop.detectors.protocol import Network
from alloop.detectors.seeding import seeded
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import CheckpointStore, TrainingState
from alloop.training.loss_history import LossHistory
from alloop.training.losses import LossReader, StepLoss
from alloop.training.objective import TrainingObjective
from alloop.training.schedule import lr_at
from alloop.training.weights import WeightAverage
from alloop.values import ImageId


class SupervisedObjective:
    """The detector's own losses on labeled images. It has no state: a batch is a function of the step number."""

    def __init__(self, detector: Network, batches: TrainingBatches, steps: int | None = None) -> None:
        """Train on batches, for `steps` steps if that is known: a loss prediction may depend on how many are done."""
        self._detector = detector
        self._batches = batches
        self._steps = steps

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """Do nothing: the average is not needed."""

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the detector's loss terms, one number per image each, and the ids of the images."""
        images, targets, image_ids = self._batches(step)
        share = 1.0 if self._steps is None else step / self._steps
        return training_losses(self._detector, images, targets, share), image_ids

    def end_step(self, step: int) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""


def make_optimizer(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """Build SGD or AdamW over the parameters that are not frozen.

    The parameters of a loss prediction module form a group of their own, whose gradients are clipped separately, so
    that the detector trains as without them. The biases of the detector form one where they are trained in another way.
    """
    groups = _groups(module, config)
    lr, decay, fused = config.lr, config.weight_decay, True  # one pass over all weights a step
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(groups, lr=lr, weight_decay=decay, fused=fused)


def _groups(module: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return groups of parameters; `factor` multiplies the learning rate, `clipped` names what is clipped together."""
    free = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    loss_prediction = [parameter for name, parameter in free if name.startswith(f"{LOSS_PREDICTION}.")]
    detector = [(name, parameter) for name, parameter in free if not name.startswith(f"{LOSS_PREDICTION}.")]
    unlike = config.bias_lr_factor != 1 or not config.bias_decay
    biases = [parameter for name, parameter in detector if unlike and name.endswith(".bias")]
    others = [parameter for name, parameter in detector if not (unlike and name.endswith(".bias"))]
    decay = config.weight_decay * config.bias_decay
    groups = [
        {"params": others, "factor": 1.0, "clipped": "detector"},
        {"params": biases, "factor": config.bias_lr_factor, "clipped": "detector", "weight_decay": decay},
        {"params": loss_prediction, "factor": 1.0, "clipped": LOSS_PREDICTION},
    ]
    return [group for group in groups if group["params"]]


def train(
    detector: Network,
    objective: TrainingObjective,
    config: TrainingConfig,
    *,
    steps: int,
    seed: RoundSeed,
    device: torch.device,
    store: CheckpointStore,
    progress: Callable[[int, float], None],
) -> LossHistory:
    """Train to the end of the schedule, leave the final (or averaged) weights in the detector, return the losses.

    Args:
        detector: freshly initialised; a checkpoint in the store replaces its weights.
        objective: the loss of each step.
        config: optimizer, schedule and averaging.
        steps: of the whole training.
        seed: of this round.
        device: to train on.
        store: where checkpoints and snapshots go.
        progress: called after each step with the number of finished steps and the loss of the batch.

    Raises:
        TrainingError: a loss that is not finite, with the image ids of that batch.
    """
    module = detector.module
    module.to(device).train()
    if config.channels_last:
        module.to(memory_format=torch.channels_last)
    optimizer, average = make_optimizer(module, config), WeightAverage(module, config.ema)
    history = LossHistory(steps)
    state = TrainingState(module, optimizer, average, objective, history)
    first = state.restore(store.load())
    objective.begin(average.tensors)
    losses, saved = LossReader(device, history), time.monotonic()
    for step in range(first, steps):
        done = step + 1
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * lr_at(config, step, steps)
        amp = torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" and config.amp else nullcontext()
        with seeded(seed.derive("step", step)), amp:
            terms, image_ids = objective(step)
            loss = torch.stack([term.sum() for term in terms.values()]).sum()
        losses.check()
        losses.add(StepLoss(terms, step, image_ids))
        _update(optimizer, loss, config.clip_norm)
        average.update(step)
        objective.end_step(step)
        progress(done, losses.latest)
        if done in store.snapshot_steps:
            losses.check()
            store.snapshot(average.to_bytes(module), done)
        if done < steps and time.monotonic() - saved >= config.checkpoint_seconds:
            losses.check()
            store.save(state.to_bytes(done), done)
            saved = time.monotonic()
    losses.check()
    average.apply(module)
    module.to(memory_format=torch.contiguous_format)  # as one that is restored: the layout decides the last bits
    return history


def _update(optimizer: torch.optim.Optimizer, loss: Tensor, clip_norm: float | None) -> None:
    """Take one step of the optimizer; the gradients of the detector and of a loss prediction are clipped separately."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_norm is not None:
        for name in dict.fromkeys(group["clipped"] for group in optimizer.param_groups):
            together = [p for group in optimizer.param_groups if group["clipped"] == name for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(together, clip_norm)
    optimizer.step()
