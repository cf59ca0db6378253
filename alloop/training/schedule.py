"""The learning rate as a pure function of the step."""

import math

from alloop.config.training import TrainingConfig

LONG_WARMUP = 0.2  # share of a training above which a warm-up is warned of


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


def warmup_steps(config: TrainingConfig, steps: int) -> int:
    """Return the steps of the warm-up: as configured, or a share of the training."""
    return config.warmup_iterations if config.warmup_share is None else round(config.warmup_share * steps)


def long_warmup(config: TrainingConfig, images: int) -> list[str]:
    """Return a warning where the warm-up covers more than a fifth of the training on this number of images.

    The learning rate of such a training is hardly ever the one that the config names, and a smaller subset of the
    images is trained in another way than a larger one.
    """
    steps = total_steps(config, images)
    warmup = warmup_steps(config, steps)
    if warmup <= LONG_WARMUP * steps:
        return []
    share = min(1.0, warmup / steps)
    advice = "set training.warmup_share to a few per cent instead of training.warmup_iterations"
    return [f"the warm-up covers {share:.0%} of the {steps} steps of a training on {images} images; {advice}"]


def lr_at(config: TrainingConfig, step: int, steps: int) -> float:
    """Return the learning rate of one step: warm-up, then constant, steps or half a cosine."""
    warmup = warmup_steps(config, steps)
    if step < warmup:
        risen = step / warmup if config.warmup_shape == "linear" else 0.0
        return config.lr * (config.warmup_ratio + (1 - config.warmup_ratio) * risen)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= share * steps for share in config.milestones)
    return config.lr
