"""What the parts of `gpu.py` share: where they measure and write, and a training of alloop with a clock."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpu_data import Scale, photographs
from gpu_peer import Clock

from alloop.data.cache_folder import CacheFolder
from alloop.data.pixels import PixelCache
from alloop.loop.context import PixelCaches, pixel_caches
from alloop.loop.experiment import Experiment, prepare
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import NoCheckpoints
from alloop.training.supervised import SupervisedObjective, train
from strategies import TABLE


@dataclass(frozen=True)
class Bench:
    """Where a part measures, and the folder of the photographs, where it writes each figure as soon as it has it."""

    part: str
    device: torch.device
    scale: Scale
    folder: Path

    @property
    def with_amp(self) -> tuple[bool, ...]:
        """AMP on and off; on the CPU there is none."""
        return (True, False) if self.device.type == "cuda" else (False,)

    def row(self, what: str, **figures: Any) -> None:
        """Append one line of figures to the file of this part."""
        with (self.folder / f"{self.part}.jsonl").open("a") as file:
            file.write(json.dumps({"part": self.part, "what": what, **figures}) + "\n")

    def experiment(self, detector: str, *, amp: bool = True) -> Experiment:
        """Return an experiment on the photographs."""
        config = photographs(self.folder, self.scale, detector, amp=amp, device=self.device.type)
        return prepare(config, TABLE)

    def caches(self, experiment: Experiment) -> PixelCaches:
        """Return caches in which nothing is decoded yet; what they decode is kept in a folder of their own."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return pixel_caches(experiment, CacheFolder(folder, limit=20 << 30))

    def peak(self) -> float | None:
        """Return the peak of the allocated device memory in GiB since the last call."""
        if self.device.type != "cuda":
            return None
        peak = torch.cuda.max_memory_allocated() / 2**30
        torch.cuda.reset_peak_memory_stats()
        return round(peak, 2)


class TimedBatches:
    """Training batches whose loading is counted as waiting."""

    def __init__(self, batches: TrainingBatches, clock: Clock) -> None:
        self._batches, self._clock = batches, clock

    def __call__(self, step: int) -> Any:
        """Return the batch of a step."""
        return self._clock.waiting(lambda: self._batches(step))


def trained(
    experiment: Experiment, cache: PixelCache, steps: int, after_step: Callable[[int], None] = lambda _: None
) -> tuple[Any, Clock]:
    """Train a new detector with alloop's own loop; return it and the clock of its steps."""
    config, device, clock = experiment.config.training, experiment.device, Clock(experiment.device)
    labeled = experiment.splits.train.dataset.annotations
    batches: Any = TrainingBatches(cache, labeled, config, RoundSeed(0, 0), with_masks=False, device=device)
    detector = experiment.new_detector(0)
    train(
        detector,
        SupervisedObjective(detector, TimedBatches(batches, clock)),
        config,
        steps=steps,
        seed=RoundSeed(0, 0),
        device=device,
        store=NoCheckpoints(),
        progress=lambda step, _loss: after_step(step),
    )
    clock.stop()
    return detector, clock
