"""The runs of a study: what one is, and how all of them are run or resumed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloop.config.reading import ExperimentConfig, parse_config
from alloop.errors import AlloopError
from alloop.loop.parts import CACHE
from alloop.progress import LOG, Progress
from alloop.studies.remaining import RemainingTime
from alloop.studies.workers import in_processes


@dataclass(frozen=True, slots=True)
class Arm:
    """One run of a study: its folder name, its config, and 1, 2, ... where it repeats another run."""

    name: str
    config: ExperimentConfig
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that did not finish, and why."""

    arm: str
    reason: str


@dataclass(frozen=True, slots=True)
class Job:
    """What a process needs for one run; it can be pickled."""

    config: Mapping[str, Any]
    folder: Path
    replicate: int
    table: Mapping[str, str]
    models: Path
    cache: Path
    quiet: bool
    bars: bool
    reports: bool  # whether it reports the warnings about its data


def run_arms(
    arms: Sequence[Arm],
    out: Path,
    table: Mapping[str, str],
    *,
    workers: int = 1,
    progress: Progress | None = None,
    quiet: bool = False,
    report_warnings: bool = True,
) -> list[Failure]:
    """Run or resume runs in folders of their own, with trained models shared; return those that failed.

    Args:
        arms: the runs.
        out: folder that holds their folders.
        table: strategies by name.
        workers: number of processes; with 1 the runs stay in this process.
        progress: where to report progress.
        quiet: silence the runs.
        report_warnings: let the first run of each data block report the warnings about its data.
    """
    out.mkdir(parents=True, exist_ok=True)
    progress = (progress or Progress(quiet=True)).logged(out / LOG)
    first = {repr(arm.config.data): arm.name for arm in reversed(arms)}.values() if report_warnings else ()
    jobs = {arm.name: _job(arm, out, table, quiet=quiet, bars=workers == 1, reports=arm.name in first) for arm in arms}
    time_left = RemainingTime({out / arm.name: arm.config.loop.rounds for arm in arms}, workers)
    if workers == 1:
        outcomes = _one_by_one(jobs, progress, time_left)
    else:
        outcomes = _in_parallel(jobs, workers, progress, time_left)
    return [Failure(name, reason) for name, reason in outcomes if reason is not None]


def _job(arm: Arm, out: Path, table: Mapping[str, str], *, quiet: bool, bars: bool, reports: bool) -> Job:
    # a replicate shares no model with the run that it repeats: it would show no difference
    models = out / "shared" / f"replay{arm.replicate}" if arm.replicate else out / "shared"
    return Job(
        arm.config.model_dump(mode="json"),
        out / arm.name,
        arm.replicate,
        dict(table),
        models,
        out / CACHE,
        quiet,
        bars,
        reports,
    )


Outcomes = Iterator[tuple[str, str | None]]  # names of runs, and why they failed


def _one_by_one(jobs: Mapping[str, Job], progress: Progress, time_left: RemainingTime) -> Outcomes:
    for number, (name, job) in enumerate(jobs.items(), start=1):
        progress.say(f"run {number} of {len(jobs)}: {name}{time_left.text()}")
        yield name, run_arm(job)


def _in_parallel(jobs: Mapping[str, Job], workers: int, progress: Progress, time_left: RemainingTime) -> Outcomes:
    done = 0
    for finished in in_processes(run_arm, jobs, workers):
        yield from finished.items()
        done += len(finished)
        names = f": {', '.join(finished)}" if finished else ""
        progress.say(f"{done} of {len(jobs)} runs done{names}{time_left.text()}")


def run_arm(job: Job) -> str | None:
    """Run one arm in whatever process this is; return the reason when it failed."""
    from alloop.loop.engine import run_experiment  # noqa: PLC0415  torch is loaded only where a run is made

    progress = Progress(quiet=job.quiet, prefix=f"{job.folder.name}: ", bars=job.bars)
    config = parse_config(job.config)
    try:
        run_experiment(
            config,
            job.folder,
            job.table,
            shared=job.models,
            cache=job.cache,
            replicate=job.replicate,
            report_warnings=job.reports,
            progress=progress,
        )
    except AlloopError as error:
        progress.say(f"failed: {error}")
        return str(error)
    return None
