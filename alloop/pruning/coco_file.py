"""Prune a COCO file into another one, as `alloop prune` does."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from alloop.config.reading import changed, load_config
from alloop.data.data_set import DataSet
from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError, StrategyError
from alloop.files import atomic_write, refuse_missing
from alloop.progress import Progress
from alloop.pruning.scores import instances_csv, scores_csv
from alloop.pruning.subset import Balance, Pruned, count_of, prune, pruning_parameters
from alloop.pruning.subset_json import subset_json
from alloop.query import FittedDetector
from alloop.strategy import InstanceStrategy, Strategy, make_strategy


@dataclass(frozen=True, kw_only=True)
class FilePruning:
    """One pruning of a COCO file.

    Attributes:
        annotations: the whole set as COCO JSON, plain or gzipped.
        strategy: the name of the strategy.
        out: where the subset is written as COCO JSON.
        table: strategies by name.
        parameters: parameters of the strategy.
        keep: the share of the images to keep; give this or `images`.
        images: the number of images to keep.
        scores: where a score for each image is written.
        instances: where a score for each instance is written.
        config: the experiment whose detector is trained on the whole set, for strategies that need one.
        random_seed: the seed of all random choices.
    """

    annotations: Path
    strategy: str
    out: Path
    table: Mapping[str, str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    keep: float | None = None
    images: int | None = None
    scores: Path | None = None
    instances: Path | None = None
    config: Path | None = None
    random_seed: int = 0

    def run(self, progress: Progress | None = None) -> list[str]:
        """Choose, and write the subset and the scores; return what the command prints.

        Raises:
            ConfigError: options that cannot work together, or a strategy that needs a detector without a config.
            DataError: annotations that cannot be used.
            StrategyError: the strategy broke its contract, or cannot score these annotations.
        """
        parameters = pruning_parameters(self.strategy, self.parameters, self.table)
        strategy = self._checked(make_strategy(self.strategy, parameters, self.table))
        started = time.monotonic()
        refuse_missing(self.annotations)
        dataset = validate(read_coco(self.annotations), str(self.annotations))
        reading = time.monotonic() - started
        count = count_of(len(dataset.images), self.keep, self.images)
        detector = self._detector(strategy, parameters, progress)
        pruned = self._pruned(dataset, strategy, count, detector, progress)
        self._write_scores(pruned, dataset)
        balance = Balance.of(dataset, pruned.kept).lines()
        del dataset  # it holds the text of the file, which is about to be read once more
        atomic_write(self.out, subset_json(self.annotations, pruned.kept))
        times = [f"{step} {seconds:.2f} s" for step, seconds in {"reading": reading, **pruned.seconds}.items()]
        return [f"{self.out}: kept by {self.strategy}", *balance, f"time: {', '.join(times)}"]

    def _checked(self, strategy: Strategy) -> Strategy:
        """Return the strategy; raise ConfigError where it cannot do what the options ask."""
        if self.out.resolve() == self.annotations.resolve():
            msg = f"--out {self.out}: is the file that is read; give another name"
            raise ConfigError(msg)
        if self.instances is not None and not isinstance(strategy, InstanceStrategy):
            msg = f"--set instances: {self.strategy} scores images, not instances; leave it out"
            raise ConfigError(msg)
        return strategy

    def _detector(
        self, strategy: Strategy, parameters: Mapping[str, Any], progress: Progress | None
    ) -> FittedDetector | None:
        """Return the detector that the strategy prunes with, trained on the whole set in a folder of its own.

        A training that was stopped goes on.
        """
        if not strategy.needs or self.config is None:
            return None
        from alloop.loop.scorer import scoring_detector  # noqa: PLC0415  only here torch is needed

        config = load_config(self.config, [f"data.train.annotations={self.annotations.resolve()}"])
        chosen = {"strategy": {"name": self.strategy, **parameters}, "random_seed": self.random_seed}
        folder = self.out.with_suffix(".model")
        return scoring_detector(changed(config, chosen), folder, self.table, progress=progress)

    def _pruned(
        self,
        dataset: DataSet,
        strategy: Strategy,
        count: int,
        detector: FittedDetector | None,
        progress: Progress | None,
    ) -> Pruned:
        """Return what is kept; name the file in errors about its annotations."""
        ask = partial(prune, dataset, strategy, count, self.random_seed, name=self.strategy)
        try:
            return ask(detector=detector, progress=progress)
        except (DataError, StrategyError) as error:
            raise type(error)(f"{self.annotations}: {error}") from error

    def _write_scores(self, pruned: Pruned, dataset: DataSet) -> None:
        if self.scores is not None:
            atomic_write(self.scores, scores_csv(pruned).encode())
        if self.instances is not None:
            atomic_write(self.instances, instances_csv(pruned, dataset).encode())
