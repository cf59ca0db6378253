"""A grid of experiments, strategies by seeds, that share seed sets and trained models by content."""

import itertools
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from alloop.config.reading import ExperimentConfig, changed, parse_config, refuse_people, with_all_labels
from alloop.errors import AlloopError, DamagedFileError
from alloop.ledger.store import read_ledger
from alloop.progress import Progress, duration
from alloop.strategy import make_strategy

FULL_LABEL = "full_label"
TELL_EVERY = 60.0  # seconds between lines about the whole study


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a study: its folder name, its config, and whether it repeats another."""

    name: str
    config: ExperimentConfig
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """An arm that did not finish, and why."""

    arm: str
    reason: str


def arms_of(
    config: ExperimentConfig,
    strategies: Sequence[str],
    seeds: Sequence[int],
    threads: int,
    *,
    full_label: bool = False,
    replicates: int = 0,
) -> list[Arm]:
    """Every run of the grid, seed by seed; strategy parameters go to the strategy the config names.

    Args:
        config: the experiment to vary.
        strategies: names; `random` is added where it is missing, since every claim is against it.
        seeds: random seeds.
        threads: CPU threads of each run.
        full_label: add one run a seed that trains once on the whole pool.
        replicates: repeat the runs of the first seed so often, to see by how much a run differs from itself.
    """
    names = list(dict.fromkeys(["random", *strategies]))
    config = changed(config, {"training.threads": config.training.threads or threads})
    arms = []
    for seed, replicate in [*((seed, 0) for seed in seeds), *((seeds[0], k + 1) for k in range(replicates))]:
        for name in names:
            parameters = config.strategy.parameters if name == config.strategy.name else {}
            arm = changed(config, {"random_seed": seed, "strategy": {"name": name, **parameters}})
            folder = f"{name.rsplit(':', 1)[-1]}_seed{seed}{f'_replay{replicate}' if replicate else ''}"
            arms.append(Arm(folder, arm, replicate))
        if full_label and not replicate:
            alone = changed(config, {"random_seed": seed, "strategy": {"name": "random"}})
            arms.append(Arm(f"{FULL_LABEL}_seed{seed}", with_all_labels(alone, _pool_size(config))))
    return arms


def _pool_size(config: ExperimentConfig) -> int:
    from alloop.data.splits import load_splits  # noqa: PLC0415  a study without full labels reads no data here

    return len(load_splits(config.data).train.dataset.images)


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
    """Run or resume every arm; one that fails is reported and does not stop the others.

    Args:
        config: the experiment to vary.
        out: folder of the study; each arm has its own folder in it, or in the folder of its setting.
        table: strategies by name.
        strategies: names to compare.
        seeds: random seeds.
        workers: processes; the CPU threads are divided among them.
        full_label: add the full-label reference.
        replicates: repeat the runs of the first seed so often, with models of their own.
        vary: values of keys of the config; every combination is a study of its own, see `settings_of`.
        progress: where to tell how it goes.
        quiet: silence the arms.
    """
    refuse_people(config, "a study")
    arms = [
        Arm(f"{setting}/{arm.name}" if setting else arm.name, arm.config, arm.replicate)
        for setting, varied in settings_of(config, vary or {})
        for arm in arms_of(
            varied, strategies, seeds, threads_each(workers), full_label=full_label, replicates=replicates
        )
    ]
    for arm in arms:
        make_strategy(arm.config.strategy.name, arm.config.strategy.parameters, table)
    return run_arms(arms, Path(out), table, workers=workers, progress=progress, quiet=quiet)


def served_by(config: ExperimentConfig, table: Mapping[str, str]) -> tuple[list[str], dict[str, list[str]]]:
    """The strategies that the detector of a config serves, and what the others lack."""
    from alloop.loop.experiment import detector_gives, lacking  # noqa: PLC0415  loads torch

    gives = detector_gives(config)
    found = {name: lacking(make_strategy(name, {}, table), gives) for name in table}
    return [name for name, needs in found.items() if not needs], {name: needs for name, needs in found.items() if needs}


def settings_of(config: ExperimentConfig, vary: Mapping[str, Sequence[Any]]) -> Iterator[tuple[str, ExperimentConfig]]:
    """Every combination of the varied keys: its folder name, empty when nothing varies, and its config.

    Raises:
        ConfigError: a key or a value that the config does not have.
    """
    for values in itertools.product(*vary.values()):
        setting = dict(zip(vary, values, strict=True))
        name = ",".join(f"{key.rsplit('.', 1)[-1]}={value}" for key, value in setting.items())
        yield name.replace("/", "_"), changed(config, setting)


def threads_each(workers: int) -> int:
    """CPU threads for each of several processes."""
    return max(1, (os.cpu_count() or 1) // workers)


def run_arms(
    arms: Sequence[Arm],
    out: Path,
    table: Mapping[str, str],
    *,
    workers: int = 1,
    progress: Progress | None = None,
    quiet: bool = False,
) -> list[Failure]:
    """Run or resume arms in folders of their own, with trained models shared; returns those that failed."""
    progress, alone = progress or Progress(quiet=True), workers == 1
    common = (dict(table), out / "shared", quiet, alone)
    jobs = [(arm.config.model_dump(mode="json"), out / arm.name, arm.replicate, *common) for arm in arms]
    clock = _Clock(arms, out)
    failures: list[Failure] = []
    if alone:
        for number, (arm, job) in enumerate(zip(arms, jobs, strict=True), start=1):
            progress.say(f"run {number} of {len(arms)}: {arm.name}{clock.left()}")
            failures += _outcome(arm, _run_arm(*job))
        return failures
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_end_with_parent) as executor:
        running: dict[Future[str | None], Arm] = {
            executor.submit(_run_arm, *job): arm for arm, job in zip(arms, jobs, strict=True)
        }
        while running:
            done, _ = wait(running, TELL_EVERY, FIRST_COMPLETED)
            ended = [(running.pop(future), future) for future in done]
            for arm, future in ended:
                error = future.exception()
                failures += _outcome(arm, str(error) if error else future.result())
            names = f": {', '.join(arm.name for arm, _ in ended)}" if ended else ""
            progress.say(f"{len(arms) - len(running)} of {len(arms)} runs done{names}{clock.left()}")
    return failures


@dataclass
class _Clock:
    """How long the rest of a study will take, judged by the rounds that were finished since it was started."""

    arms: Sequence[Arm]
    out: Path
    started: float = field(default_factory=time.monotonic)
    before: int = -1

    def left(self) -> str:
        """Rounds done of all rounds, and the time left once one was finished."""
        done, total = sum(map(self._done, self.arms)), sum(arm.config.loop.rounds for arm in self.arms)
        if self.before < 0:
            self.before = done
        text = f" ({done} of {total} rounds done"
        if done in (self.before, total):
            return f"{text})"
        each = (time.monotonic() - self.started) / (done - self.before)
        return f"{text}, about {duration(each * (total - done))} left)"

    def _done(self, arm: Arm) -> int:
        folder = self.out / arm.name
        if not (folder / "run.db").is_file():
            return 0
        try:
            with read_ledger(folder) as ledger:
                finished = ledger.open_round() is None and ledger.facts() is not None
                return arm.config.loop.rounds if finished else len(ledger.rounds())
        except DamagedFileError:  # not written yet; where it is damaged, the run itself says so
            return 0


def _end_with_parent() -> None:
    """A worker whose study was killed stops at once; what it had booked is kept, the rest is done on resuming."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _outcome(arm: Arm, reason: str | None) -> list[Failure]:
    return [Failure(arm.name, reason)] if reason else []


def _run_arm(
    tree: Mapping[str, Any],
    out: Path,
    replicate: int,
    table: Mapping[str, str],
    shared: Path,
    quiet: bool,  # noqa: FBT001
    bars: bool,  # noqa: FBT001
) -> str | None:
    """One arm in whatever process this is; returns the reason when it failed."""
    from alloop.loop.engine import run_experiment  # noqa: PLC0415  torch is loaded only where a run is made

    progress = Progress(quiet=quiet, prefix=f"{out.name}: ", bars=bars)
    models = (
        shared / f"replay{replicate}" if replicate else shared
    )  # a repetition that took a model over would show nothing
    try:
        run_experiment(parse_config(tree), out, table, shared=models, replicate=replicate, progress=progress)
    except AlloopError as error:
        progress.say(f"failed: {error}")
        return str(error)
    return None
