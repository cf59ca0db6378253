"""Every random choice is a pure function of (random_seed, round, purpose). No generator is kept."""

import hashlib

import numpy as np


def derive_seed(random_seed: int, *purpose: str | int) -> int:
    """A 63-bit seed that depends on all arguments and on nothing else."""
    text = "\x1f".join([str(random_seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(random_seed: int, *purpose: str | int) -> np.random.Generator:
    """A fresh generator for one purpose; calling again gives the same numbers again."""
    return np.random.Generator(np.random.PCG64(derive_seed(random_seed, *purpose)))


def tie_break(random_seed: int, image_id: int) -> int:
    """A number that orders images of equal utility by neither position nor id."""
    return derive_seed(random_seed, "tie", image_id)
