"""A grid of experiments, strategies by seeds, that share seed sets and trained models by content."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from alloop.config import ExperimentConfig, parse_config, with_all_labels
from alloop.errors import AlloopError
from alloop.progress import Progress
from alloop.strategy import make_strategy

FULL_LABEL = "full_label"


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a study: its folder name and its config."""

    name: str
    config: ExperimentConfig


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
) -> list[Arm]:
    """Every run of the grid, seed by seed; strategy parameters go to the strategy the config names.

    Args:
        config: the experiment to vary.
        strategies: names; `random` is added where it is missing, since every claim is against it.
        seeds: random seeds.
        threads: CPU threads of each run.
        full_label: add one run a seed that trains once on the whole pool.
    """
    names = list(dict.fromkeys(["random", *strategies]))
    tree = config.model_dump(mode="json")
    tree["training"]["threads"] = config.training.threads or threads
    arms = []
    for seed in seeds:
        for name in names:
            parameters = config.strategy.parameters if name == config.strategy.name else {}
            arm = {**tree, "random_seed": seed, "strategy": {"name": name, **parameters}}
            arms.append(Arm(f"{name.rsplit(':', 1)[-1]}_seed{seed}", parse_config(arm)))
        if full_label:
            alone = parse_config({**tree, "random_seed": seed, "strategy": {"name": "random"}})
            arms.append(Arm(f"{FULL_LABEL}_seed{seed}", with_all_labels(alone, _pool_size(config))))
    return arms


def _pool_size(config: ExperimentConfig) -> int:
    from alloop.data.splits import load_splits  # noqa: PLC0415  a study without full labels reads no data here

    return len(load_splits(config.data).train.dataset.images)


def run_study(
    config: ExperimentConfig,
    out: Path,
    table: Mapping[str, str],
    *,
    strategies: Sequence[str],
    seeds: Sequence[int],
    workers: int = 1,
    full_label: bool = False,
    progress: Progress | None = None,
    quiet: bool = False,
) -> list[Failure]:
    """Run or resume every arm; one that fails is reported and does not stop the others.

    Args:
        config: the experiment to vary.
        out: folder of the study; each arm has its own folder in it.
        table: strategies by name.
        strategies: names to compare.
        seeds: random seeds.
        workers: processes; the CPU threads are divided among them.
        full_label: add the full-label reference.
        progress: where to tell how it goes.
        quiet: silence the arms.
    """
    arms = arms_of(config, strategies, seeds, threads_each(workers), full_label=full_label)
    for arm in arms:
        make_strategy(arm.config.strategy.name, arm.config.strategy.parameters, table)
    return run_arms(arms, out, table, workers=workers, progress=progress, quiet=quiet)


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
    jobs = [(arm.config.model_dump(mode="json"), out / arm.name, *common) for arm in arms]
    failures: list[Failure] = []
    if alone:
        for number, (arm, job) in enumerate(zip(arms, jobs, strict=True), start=1):
            progress.say(f"run {number} of {len(arms)}: {arm.name}")
            failures += _outcome(arm, _run_arm(*job))
        return failures
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        running: dict[Future[str | None], Arm] = {
            executor.submit(_run_arm, *job): arm for arm, job in zip(arms, jobs, strict=True)
        }
        for number, future in enumerate(as_completed(running), start=1):
            arm = running[future]
            error = future.exception()
            failures += _outcome(arm, str(error) if error else future.result())
            progress.say(f"{number} of {len(arms)} runs done: {arm.name}")
    return failures


def _outcome(arm: Arm, reason: str | None) -> list[Failure]:
    return [Failure(arm.name, reason)] if reason else []


def _run_arm(
    tree: Mapping[str, Any],
    out: Path,
    table: Mapping[str, str],
    shared: Path,
    quiet: bool,  # noqa: FBT001
    bars: bool,  # noqa: FBT001
) -> str | None:
    """One arm in whatever process this is; returns the reason when it failed."""
    from alloop.engine import run_experiment  # noqa: PLC0415  torch is loaded only where a run is made

    progress = Progress(quiet=quiet, prefix=f"{out.name}: ", bars=bars)
    try:
        run_experiment(parse_config(tree), out, table, shared=shared, progress=progress)
    except AlloopError as error:
        progress.say(f"failed: {error}")
        return str(error)
    return None
