"""Prune, then train: AP over the share of the images that is kept, for several strategies.

For every random seed one detector is trained on the whole set. It is the reference, and strategies that need a detector
prune with it. Where the config has a block `scorer`, strategies prune with the detector of that block instead. It is
trained on the whole set as well, so there are two references: one trained as the subsets are, and one as itself. Then
each strategy chooses its subsets, and a detector is trained on each of them. Everything lies in one folder, and the
same command resumes it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from alloop.config.reading import ExperimentConfig, changed, refuse_classification, scorer_of, with_all_labels
from alloop.data.data_set import DataSet
from alloop.data.splits import load_splits
from alloop.errors import ConfigError
from alloop.files import atomic_write, sha256_of
from alloop.ledger.store import read_ledger
from alloop.loop.recorded_data import contents_of
from alloop.progress import Progress
from alloop.pruning.subset import Balance, count_of, prune, pruning_parameters
from alloop.query import FittedDetector, Need
from alloop.strategy import Strategy, make_strategy, unserved
from alloop.studies.arms import Arm, Failure, run_arms
from alloop.studies.grid import FULL_LABEL, threads_each
from alloop.tasks.detection import boxes_of

SCORER = "scorer"  # name of the detector of the block `scorer`, trained on the whole set


@dataclass(frozen=True, slots=True)
class Trained:
    """A detector trained on a subset: what was kept, its class balance, and its metrics, fractions of 1 or None."""

    strategy: str
    random_seed: int
    keep: float
    images: int
    boxes: int
    class_entropy: float
    divergence: float
    metrics: Mapping[str, float | None]


@dataclass(frozen=True)
class PruneStudy:
    """A grid of strategies, shares and seeds.

    Attributes:
        config: detector, training and data; the parameters of its strategy go to the strategy that it names.
        out: the folder of the study.
        table: strategies by name.
        names: the strategies; `random` is always among them.
        keeps: the shares of the images to keep.
        seeds: the random seeds of training and pruning.
        workers: the number of processes that train.
    """

    config: ExperimentConfig
    out: Path
    table: Mapping[str, str]
    names: Sequence[str]
    keeps: Sequence[float]
    seeds: Sequence[int]
    workers: int = 1

    def run(self, progress: Progress | None = None, *, quiet: bool = False) -> list[Failure]:
        """Prune and train what is not there yet; return the trainings that failed.

        Raises:
            ConfigError: an impossible share, an unknown strategy or parameter, a detector that cannot serve a
                strategy, a file of weights that is not there or is of another detector.
        """
        refuse_classification(self.config, "pruning")
        progress = progress or Progress(quiet=True)
        strategies = self._strategies
        for keep in self.keeps:
            count_of(len(self._dataset.images), keep, None)
        failures = []
        for seed in self.seeds:
            first = seed == self.seeds[0]
            failures += run_arms(
                self._wholes(seed), self.out, self.table, progress=progress, quiet=quiet, report_warnings=first
            )
            for name, strategy in strategies.items():
                self._prune(name, strategy, seed, progress)
        arms = [self._arm(*cell) for cell in self._grid]
        return failures + run_arms(
            arms,
            self.out,
            self.table,
            workers=self.workers,
            progress=progress,
            quiet=quiet,
            report_warnings=False,
        )

    def results(self) -> list[Trained]:
        """Return the results of every finished training; the detectors trained on the whole set come first."""
        whole = [
            self._trained(arm.name, name, 1.0, seed)
            for seed in self.seeds
            for name, arm in zip((FULL_LABEL, SCORER), self._wholes(seed), strict=False)
        ]
        parts = [self._trained(_folder(*cell), *cell) for cell in self._grid]
        return [trained for trained in [*whole, *parts] if trained is not None]

    @cached_property
    def _dataset(self) -> DataSet:
        return boxes_of(load_splits(self.config.data).train)

    @cached_property
    def _weights(self) -> Path | None:
        """The file of the scorer's weights, if it has one."""
        weights = None if self.config.scorer is None else self.config.scorer.weights
        if weights is not None and not weights.is_file():
            msg = f"scorer.weights: {weights}: there is no such file; name the model of a run, or give scorer.training"
            raise ConfigError(msg)
        return weights

    @property
    def _all_names(self) -> list[str]:
        return list(dict.fromkeys(["random", *self.names]))

    @property
    def _grid(self) -> list[tuple[str, float, int]]:
        return [(name, keep, seed) for seed in self.seeds for keep in self.keeps for name in self._all_names]

    def _parameters(self, name: str) -> dict[str, Any]:
        own = self.config.strategy.parameters if name == self.config.strategy.name else {}
        return pruning_parameters(name, own, self.table)

    @cached_property
    def _strategies(self) -> dict[str, Strategy]:
        return {name: make_strategy(name, self._parameters(name), self.table) for name in self._all_names}

    def _wholes(self, seed: int) -> list[Arm]:
        """Return the trainings on the whole set: as the subsets are trained, and that of the scorer where it differs.

        The last one keeps snapshots where a strategy needs them.
        """
        config, images = self._config(seed), len(self._dataset.images)
        if self.config.scorer is None:
            return [self._with_snapshots(FULL_LABEL, config, seed)]
        whole = Arm(_folder(FULL_LABEL, 1, seed), with_all_labels(config, images))
        if self._weights is not None:
            return [whole]
        return [whole, self._with_snapshots(SCORER, scorer_of(self._config(seed, scorer=True)), seed)]

    def _with_snapshots(self, name: str, config: ExperimentConfig, seed: int) -> Arm:
        """Return a training on the whole set, which keeps snapshots where a strategy needs them."""
        images = len(self._dataset.images)
        if any(Need.SNAPSHOTS in strategy.needs for strategy in self._strategies.values()):
            from alloop.training.schedule import snapshot_steps  # noqa: PLC0415

            snapshots = len(snapshot_steps(config.training, images, wanted=True))
            config = changed(config, {"training.snapshots": snapshots})
            name = f"{name}_states"  # a training without snapshots may be there already
        return Arm(_folder(name, 1, seed), with_all_labels(config, images))

    def _config(self, seed: int, *, scorer: bool = False) -> ExperimentConfig:
        """Return the experiment of a training under one seed, with the block `scorer` or without it."""
        threads = self.config.training.threads or threads_each(self.workers)
        changes = {"training.threads": threads, "random_seed": seed, "strategy": {"name": "random"}}
        return changed(self.config, changes if scorer else {**changes, "scorer": None})

    def _arm(self, name: str, keep: float, seed: int) -> Arm:
        """Return the training on a subset: one round on the images that the file of the subset names."""
        count = count_of(len(self._dataset.images), keep, None)
        subset = str(self._subset_path(name, keep, seed).resolve())
        config = changed(with_all_labels(self._config(seed), count), {"loop.seed_images": subset})
        return Arm(_folder(name, keep, seed), config)

    def _prune(self, name: str, strategy: Strategy, seed: int, progress: Progress) -> None:
        """Write the subsets of one strategy that are not there yet."""
        detector: FittedDetector | None = None
        for keep in self.keeps:
            path = self._subset_path(name, keep, seed)
            if path.is_file():
                continue
            if strategy.needs and detector is None:
                detector = self._detector(name, strategy, seed, progress)
            count = count_of(len(self._dataset.images), keep, None)
            progress.say(f"pruning: {name} keeps {count} of {len(self._dataset.images)} images, seed {seed}")
            pruned = prune(self._dataset, strategy, count, seed, detector=detector, progress=progress, name=name)
            lines = [f"# {json.dumps(self._facts(name, keep, seed))}", *map(str, pruned.kept)]
            atomic_write(path, ("\n".join(lines) + "\n").encode())

    def _detector(self, name: str, strategy: Strategy, seed: int, progress: Progress) -> FittedDetector:
        """Return the detector that was trained on the whole set, or whose weights were given.

        Raises:
            ConfigError: the detector does not give what the strategy needs.
        """
        from alloop.loop.scorer import scoring_detector  # noqa: PLC0415  only here torch is needed

        arm = self._wholes(seed)[-1]
        if self._weights is not None:
            arm = Arm(_folder(SCORER, 1, seed), self._config(seed, scorer=True))
        folder, shared = self.out / arm.name, self.out / "shared"
        detector = scoring_detector(arm.config, folder, self.table, shared=shared, progress=progress)
        lacking = unserved(strategy.needs, detector.gives)
        if lacking:
            msg = (
                f"{name} needs {', '.join(lacking)}, which the detector of this study does not give; "
                f"it gives {', '.join(sorted(detector.gives))}"
            )
            raise ConfigError(msg)
        return detector

    def _facts(self, name: str, keep: float, seed: int) -> dict[str, Any]:
        """Return everything that a subset depends on."""
        config = scorer_of(self._config(seed, scorer=True))
        # of a path what lies behind it: a study may be moved
        detector = {k: self._contents.get(f"detector.{k}", v) for k, v in config.detector.with_siblings().items()}
        training = config.training.model_dump(mode="json", exclude={*config.training.absent})
        recipe = json.dumps([detector, training], sort_keys=True)
        if self._weights is not None:
            recipe += sha256_of(self._weights.read_bytes())
        return {
            "strategy": name,
            "parameters": self._parameters(name),
            "keep": keep,
            "random_seed": seed,
            "data": self._fingerprint,
            "recipe": sha256_of(recipe.encode()),
        }

    @cached_property
    def _contents(self) -> dict[str, str]:
        return contents_of(scorer_of(self.config), self.table)

    @cached_property
    def _fingerprint(self) -> str:
        return self._dataset.fingerprint()

    def _subset_path(self, name: str, keep: float, seed: int) -> Path:
        """Return the file of a subset; its name depends on the facts, so that no subset is taken for another."""
        digest = sha256_of(json.dumps(self._facts(name, keep, seed), sort_keys=True).encode())[:12]
        return self.out / "subsets" / f"{_folder(name, keep, seed)}_{digest}.txt"

    def _trained(self, arm: str, name: str, keep: float, seed: int) -> Trained | None:
        """Return the results of one training; None when it is not finished."""
        folder = self.out / arm
        if not (folder / "run.db").is_file():
            return None
        with read_ledger(folder) as ledger:
            rounds, kept = ledger.rounds(), tuple(ledger.labeled())
        if not rounds:
            return None
        balance = Balance.of(self._dataset, kept)
        return Trained(
            strategy=name,
            random_seed=seed,
            keep=keep,
            images=len(kept),
            boxes=rounds[0].boxes,
            class_entropy=balance.entropy,
            divergence=balance.divergence,
            metrics=rounds[0].metrics,
        )


def _folder(name: str, keep: float, seed: int) -> str:
    return f"{name.rsplit(':', 1)[-1]}_keep{keep:g}_seed{seed}"
