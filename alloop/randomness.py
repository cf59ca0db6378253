"""Every random choice is a pure function of (random_seed, round, purpose). No generator is kept."""

import hashlib
from dataclasses import dataclass

import numpy as np


def derive_seed(random_seed: int, *purpose: str | int) -> int:
    """Return a 63-bit seed that depends on all arguments and on nothing else."""
    text = "\x1f".join([str(random_seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rng(random_seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a fresh generator for one purpose; the same arguments give the same numbers again."""
    return np.random.Generator(np.random.PCG64(derive_seed(random_seed, *purpose)))


def tie_break(random_seed: int, image_id: int) -> int:
    """Return a number that orders images of equal utility by neither position nor id."""
    return derive_seed(random_seed, "tie", image_id)


@dataclass(frozen=True, slots=True)
class RoundSeed:
    """The random seed of an experiment together with one of its rounds; all randomness of the round derives from it."""

    random_seed: int
    round: int

    def derive(self, *purpose: str | int) -> int:
        """Return the 63-bit seed of one purpose in this round."""
        return derive_seed(self.random_seed, self.round, *purpose)

    def rng(self, *purpose: str | int) -> np.random.Generator:
        """Return a fresh generator for one purpose in this round."""
        return rng(self.random_seed, self.round, *purpose)
