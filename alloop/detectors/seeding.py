"""Torch has one random generator per device; everything that draws from it does so inside `seeded`."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch


@cache
def _gpus() -> tuple[int, ...]:
    """Return the GPUs, counted once: a question to the driver at every training step costs more than seeding."""
    return tuple(range(torch.cuda.device_count()))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's generators inside a `with`; afterwards they are as they were before."""
    if _gpus():
        with torch.random.fork_rng(devices=_gpus()):
            torch.manual_seed(seed)
            yield
        return
    # without a GPU torch.manual_seed still queues a call for one, with a stack trace, at every step
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
