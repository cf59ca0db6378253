"""Trainings of a few steps that keep their checkpoints in memory."""

import torch

from alloop.config import parse_config
from alloop.data.pixels import PixelCache
from alloop.loop.experiment import prepare
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.supervised import train
from strategies import TABLE
from tests.support import small_tree


class MemoryStore:
    """A checkpoint store that keeps every saved state in memory."""

    def __init__(self, state=None, snapshot_steps=()):
        self.state, self.saved = state, []
        self.snapshot_steps, self.kept = snapshot_steps, {}

    def snapshot(self, weights, step):
        self.kept[step] = weights

    def load(self):
        return self.state

    def save(self, state, step):
        self.saved.append((step, state))


def experiment(**changes):
    """Return the prepared experiment of a small config."""
    return prepare(parse_config(small_tree(**changes)), TABLE)


def batches_of(prepared, labeled, *, masks=False, short_sides=(), repeat_threshold=None):
    """Return the training batches of labeled images."""
    pool = prepared.splits.train
    cache = PixelCache(pool.images, 64, 64)
    return TrainingBatches(
        cache,
        labeled,
        prepared.config.training.model_copy(
            update={"flip": 0.5, "short_sides": short_sides, "repeat_threshold": repeat_threshold}
        ),
        RoundSeed(0, 0),
        with_masks=masks,
        device=torch.device("cpu"),
    )


def trained_weights(prepared, detector, objective, store, steps):
    """Train and return the weights."""
    train(
        detector,
        objective,
        prepared.config.training,
        steps=steps,
        seed=RoundSeed(0, 0),
        device=torch.device("cpu"),
        store=store,
        progress=lambda *_: None,
    )
    return detector.module.state_dict()
