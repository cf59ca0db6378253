"""What the steps of a round work with: the experiment, its ledger, its oracle, its decoded images."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from alloop.data.cache_folder import CacheFolder, RecentFolder
from alloop.data.pixels import PixelCache
from alloop.data.splits import Split
from alloop.ledger.store import Ledger
from alloop.loop.experiment import Experiment
from alloop.loop.shared_models import SharedModels
from alloop.oracles.oracle import HumanOracle, RevealingOracle
from alloop.progress import Progress


@dataclass(frozen=True, slots=True)
class PixelCaches:
    """The decoded images: the pool at the scoring size and at the largest training size, test and reference split."""

    pool: PixelCache
    training: PixelCache
    test: PixelCache
    reference: PixelCache


@dataclass(frozen=True, slots=True)
class RunContext:
    """What the steps of a round work with. It never reaches a strategy.

    `kept` and `scores` hold what can be computed again, for all runs of a study: `kept` what a study needs to its end,
    `scores` what a round needs.
    """

    experiment: Experiment
    ledger: Ledger
    oracle: RevealingOracle | HumanOracle
    caches: PixelCaches
    kept: CacheFolder
    scores: RecentFolder
    shared: SharedModels | None
    progress: Progress

    def reports_about(self, split: Split) -> Callable[[str, int, int], None]:
        """Return what reports the progress of work on the images of one split, and names it."""
        splits = self.experiment.splits
        names = ((splits.train, "pool"), (splits.test, "test split"), (splits.reference, "reference split"))
        name = next((f" of the {name}" for known, name in names if known is split), "")
        step = self.progress.step  # not the context: a strategy's detector holds what is returned, and no hidden label
        return lambda task, done, total: step(f"{task}{name}", done, total)


@dataclass
class Timings:
    """Seconds by step of one round; `begin` is called with each step when it begins."""

    begin: Callable[[str], None] = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add the duration of a step."""
        self.begin(step)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - started, 4)


def pixel_caches(experiment: Experiment, kept: CacheFolder | None = None) -> PixelCaches:
    """Return caches that decode each image when it is first read; splits of one size share one cache.

    Args:
        experiment: the experiment.
        kept: where pixels are kept; None decodes image files at every read.
    """
    detector, training = experiment.detector, experiment.config.training

    def cache(split: Split, short_side: int) -> PixelCache:
        reduced, threads = training.decoding == "reduced", decoding_threads(experiment)
        return PixelCache(split.images, short_side, detector.long_side, kept, reduced=reduced, threads=threads)

    splits, short_side = experiment.splits, detector.short_side
    largest = max((short_side, *training.short_sides))
    pool, test = cache(splits.train, short_side), cache(splits.test, short_side)
    return PixelCaches(
        pool=pool,
        training=pool if largest == short_side else cache(splits.train, largest),
        test=test,
        reference=test if splits.shared else cache(splits.reference, short_side),
    )


def decoding_threads(experiment: Experiment) -> int:
    """Return the number of threads that read images ahead; on the CPU one, since the network needs the others."""
    configured = experiment.config.training.decoding_threads
    return configured or (1 if experiment.device.type == "cpu" else min(8, os.cpu_count() or 1))
