"""The learning rate as a pure function of the step."""

import math

from alloop.config.blocks import TrainingConfig


def total_steps(config: TrainingConfig, images: int) -> int:
    """Return the steps of a round: as configured, or as many as the epochs take."""
    if config.iterations is not None:
        return config.iterations
    return max(1, math.ceil((config.epochs or 1) * images / config.batch_size))


def snapshot_steps(config: TrainingConfig, images: int, *, wanted: bool) -> tuple[int, ...]:
    """Return the steps after which a state is kept, at equal distances; the last is the end of the training.

    Args:
        config: its `snapshots` is their number; None means one per epoch, at least two, where they are wanted, and none
            elsewhere.
        images: number of images that are trained on.
        wanted: whether the strategy needs snapshots.
    """
    steps = total_steps(config, images)
    epochs = round(steps * config.batch_size / images)
    number = (max(2, epochs) if wanted else 0) if config.snapshots is None else config.snapshots
    number = min(number, steps)
    return tuple(round(k * steps / number) for k in range(1, number + 1))


def lr_at(config: TrainingConfig, step: int, steps: int) -> float:
    """Return the learning rate of one step: linear warm-up, then constant, steps or half a cosine."""
    if step < config.warmup_iterations:
        share = step / config.warmup_iterations
        return config.lr * (config.warmup_ratio + (1 - config.warmup_ratio) * share)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= share * steps for share in config.milestones)
    return config.lr
