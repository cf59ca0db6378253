"""A trained detector, its query and the duration of its training, which the benchmarks of influence share."""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from alloop.config import load_config
from alloop.detectors.fitted import FittedTorchDetector
from alloop.loop.context import pixel_caches
from alloop.loop.experiment import Experiment, prepare
from alloop.loop.pool import seed_set_order
from alloop.query import Query
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import NoCheckpoints
from alloop.training.schedule import total_steps
from alloop.training.supervised import SupervisedObjective, train
from strategies import TABLE

CONFIGS = Path(__file__).parent.parent / "configs"
LABELED = 40


@cache
def trained(config_name: str, data: str | None = None) -> tuple[Experiment, Query, float]:
    """Return an experiment, the query after a training on `LABELED` images, and the seconds of that training.

    The loss prediction module trained beside it leaves the detector as it is.
    """
    config = load_config(
        CONFIGS / f"{config_name}.yaml",
        ["strategy.name=learning_loss", "training.device=cpu", *data_settings(data)],
    )
    experiment = prepare(config, TABLE)
    pool = experiment.splits.train
    seed_set = seed_set_order(pool.dataset.images, 0)[:LABELED]
    labeled = {i: pool.dataset.annotations[i] for i in seed_set}
    caches = pixel_caches(experiment)
    batches = TrainingBatches(
        caches.training,
        labeled,
        config.training.model_copy(update={"short_sides": (), "repeat_threshold": None}),
        RoundSeed(0, 0),
        with_masks=False,
        device=experiment.device,
    )
    detector, started = experiment.new_detector(0), time.perf_counter()
    train(
        detector,
        SupervisedObjective(detector, batches),
        config.training,
        steps=total_steps(config.training, LABELED),
        seed=RoundSeed(0, 0),
        device=experiment.device,
        store=NoCheckpoints(),
        progress=lambda _step, _loss: None,
    )
    seconds = time.perf_counter() - started

    return experiment, _query(experiment, detector, caches, labeled), seconds


def _query(experiment: Experiment, detector: Any, caches: Any, labeled: Any) -> Query:
    pool, reference = experiment.splits.train, experiment.splits.reference

    def fitted(split: Any, name: str) -> FittedTorchDetector:
        return FittedTorchDetector(
            detector,
            split.images,
            getattr(caches, name),
            split.dataset.class_names,
            gives=experiment.detector.gives,
            batch_size=experiment.config.training.batch_size,
            device=experiment.device,
        )

    return Query(
        round=0,
        unlabeled=tuple(i for i in pool.dataset.images if i not in labeled),
        labeled=labeled,
        detector=fitted(pool, "pool"),
        count=20,
        random_seed=0,
        reference=reference.dataset.annotations,
        reference_detector=fitted(reference, "reference"),
    )


def data_settings(data: str | None) -> list[str]:
    """Return the settings that put another data set of `ALLOOP_DATA` in the place of the config's own."""
    if data is None:
        return []
    root = Path(os.environ["ALLOOP_DATA"]) / data
    parts = {"train": "train", "reference": "val", "test": "test"}
    sets = [f"data.{split}.annotations={root}/annotations/instances_{part}.json" for split, part in parts.items()]
    return [*sets, *(f"data.{split}.images={root}/images" for split in parts)]
