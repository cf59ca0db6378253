"""A study: a grid of strategies and random seeds, whose runs share seed sets and trained models by content."""

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alloop.config.reading import ExperimentConfig, changed, refuse_people, refuse_waiting, with_all_labels
from alloop.ledger.database import FILE
from alloop.loop.parts import CACHE, detector_gives, kept_values, lacking
from alloop.progress import Progress
from alloop.strategy import make_strategy
from alloop.studies.arms import Arm, Failure, run_arms
from alloop.studies.checks import check_arms
from alloop.tasks.table import task_of
from alloop.trackers.tracker import require_packages

FULL_LABEL = "full_label"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """Which runs a study has.

    Attributes:
        strategies: names to compare; `random` is added where it is missing, since every verdict is against it.
        seeds: random seeds.
        full_label: add one run for each seed that trains once on the whole pool.
        replicates: how often the runs of the first seed are repeated, to measure how much a run differs from itself.
        vary: values of keys of the config; every combination is a study of its own.
    """

    strategies: Sequence[str]
    seeds: Sequence[int]
    full_label: bool = False
    replicates: int = 0
    vary: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def arms(self, config: ExperimentConfig, threads: int) -> list[Arm]:
        """Return every run, setting by setting and seed by seed, each with this number of CPU threads."""
        config = changed(config, {"training.threads": config.training.threads or threads})
        return [
            Arm(f"{setting}/{arm.name}" if setting else arm.name, arm.config, arm.replicate)
            for setting, varied in settings_of(config, self.vary)
            for arm in self._arms_of_setting(varied)
        ]

    def _arms_of_setting(self, config: ExperimentConfig) -> Iterator[Arm]:
        repeats = [(self.seeds[0], replicate) for replicate in range(1, self.replicates + 1)]
        for seed, replicate in [*((seed, 0) for seed in self.seeds), *repeats]:
            for name in dict.fromkeys(["random", *self.strategies]):
                yield _strategy_arm(config, name, seed, replicate)
            if self.full_label and not replicate:
                yield _full_label_arm(config, seed)


def _strategy_arm(config: ExperimentConfig, name: str, seed: int, replicate: int) -> Arm:
    """Return the run of one strategy; the parameters in the config go to the strategy that the config names."""
    parameters = config.strategy.parameters if name == config.strategy.name else {}
    suffix = f"_replay{replicate}" if replicate else ""
    folder = f"{name.rsplit(':', 1)[-1]}_seed{seed}{suffix}"
    return Arm(folder, changed(config, {"random_seed": seed, "strategy": {"name": name, **parameters}}), replicate)


def _full_label_arm(config: ExperimentConfig, seed: int) -> Arm:
    images = len(task_of(config).load_splits(config.data).train.dataset.images)
    alone = changed(config, {"random_seed": seed, "strategy": {"name": "random"}})
    return Arm(f"{FULL_LABEL}_seed{seed}", with_all_labels(alone, images))


def run_study(
    config: ExperimentConfig,
    out: str | Path,
    table: Mapping[str, str],
    *,
    strategies: Sequence[str],
    seeds: Sequence[int],
    workers: int = 1,
    full_label: bool = False,
    replicates: int = 0,
    vary: Mapping[str, Sequence[Any]] | None = None,
    progress: Progress | None = None,
    quiet: bool = False,
) -> list[Failure]:
    """Run or resume every run of a study; one that fails is reported and does not stop the others.

    Args:
        config: the experiment to vary.
        out: folder of the study; each run has its own folder in it, or in the folder of its setting.
        table: strategies by name.
        strategies: see `Grid`, as for `seeds`, `full_label`, `replicates` and `vary`.
        seeds: random seeds.
        workers: number of processes; the CPU threads are divided among them.
        full_label: add the runs on the whole pool.
        replicates: number of repetitions of the first seed, with models of their own.
        vary: values of keys of the config.
        progress: where to report progress.
        quiet: silence the runs.

    Returns:
        the runs that failed.

    Raises:
        ConfigError: a wrong strategy, parameter or key; a run that cannot begin; a config that asks people, or waits
            for a program.
        DataError: data that cannot be used. Nothing is trained then.
    """
    refuse_people(config, "a study")
    refuse_waiting(config)
    for block in config.trackers:
        require_packages(block.name, block.plugin_class)
    grid = Grid(strategies=strategies, seeds=seeds, full_label=full_label, replicates=replicates, vary=vary or {})
    arms = grid.arms(config, threads_each(workers))
    out, progress = Path(out), progress or Progress(quiet=True)
    begun = {arm.name for arm in arms if (out / arm.name / FILE).exists()}
    check_arms([arm for arm in arms if arm.name not in begun], table, kept_values(config, out / CACHE, progress.say))
    return run_arms(arms, out, table, workers=workers, progress=progress, quiet=quiet)


def served_by(config: ExperimentConfig, table: Mapping[str, str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the strategies that the detector of a config serves, and the needs that the others lack."""
    gives = detector_gives(config)
    missing = {name: lacking(make_strategy(name, {}, table), gives) for name in table}
    others = {name: needs for name, needs in missing.items() if needs}
    return [name for name in missing if name not in others], others


def settings_of(config: ExperimentConfig, vary: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, ExperimentConfig]]:
    """Yield every combination of the varied keys: its folder name, empty when nothing varies, and its config.

    Raises:
        ConfigError: a key or a value that the config does not have.
    """
    for values in itertools.product(*vary.values()):
        setting = dict(zip(vary, values, strict=True))
        name = ",".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in setting.items())
        yield name.replace("/", "_"), changed(config, setting)


def threads_each(workers: int) -> int:
    """Return the CPU threads for each of several processes."""
    return max(1, (os.cpu_count() or 1) // workers)
