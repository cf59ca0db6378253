"""The learning rate as a pure function of the step."""

import math

from alloop.config import TrainingConfig


def total_steps(config: TrainingConfig, images: int) -> int:
    """Steps of a round: as given, or as many as the epochs need."""
    if config.iterations is not None:
        return config.iterations
    return max(1, math.ceil((config.epochs or 1) * images / config.batch_size))


def lr_at(config: TrainingConfig, step: int, steps: int) -> float:
    """Learning rate of one step: linear warm-up, then constant, steps or half a cosine."""
    if step < config.warmup_iterations:
        share = step / config.warmup_iterations
        return config.lr * (config.warmup_ratio + (1 - config.warmup_ratio) * share)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * step / steps))
    if config.schedule == "step":
        return config.lr * config.gamma ** sum(step >= share * steps for share in config.milestones)
    return config.lr
