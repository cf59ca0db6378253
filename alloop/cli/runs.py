"""The commands that train: `demo`, `run` and `study`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alloop.cli.options import ConfigFile, Overrides, Quiet, Seeds, Workers, names_of, numbers_of
from alloop.cli.strategies import Strategies, strategy_table
from alloop.errors import AlloopError, UnreachableError, WaitingError
from alloop.results.names import UNITS, measured, metric_title

if TYPE_CHECKING:
    from alloop.config import ExperimentConfig
    from alloop.ledger.store import RoundRecord
    from alloop.progress import Progress
    from alloop.studies.arms import Failure

WAIT_SECONDS = 30.0  # between two checks for answers


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("demo"),
    workers: Workers = 2,
    quiet: Quiet = False,
) -> None:
    """Run a small study from beginning to end: compare strategies on scenes of handwritten digits.

    Nothing is downloaded.
    """
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.studies.grid import run_study  # noqa: PLC0415

    failures = run_study(
        load_config(Path(__file__).parent / "demo.yaml"),
        out,
        strategy_table(),
        strategies=["random", "entropy", "k_center"],
        seeds=[0],
        workers=workers,
        progress=Progress(quiet=quiet),
        quiet=quiet,
    )
    refuse_failures(failures)
    _show_comparison(out, "alloop demo: handwritten digits")


def run(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006  typer needs a list
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/<config name> by default.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Check for answers every 30 seconds instead of ending with exit code 3.")
    ] = False,
    accept_partial: Annotated[
        bool,
        typer.Option(
            "--accept-partial",
            help="Close the open round with the answers that have arrived; images without one return to the pool.",
        ),
    ] = False,
    accept_revisions: Annotated[
        bool,
        typer.Option(
            "--accept-revisions",
            help="Train from the open round on what people corrected after it was booked, and charge the corrections.",
        ),
    ] = False,
    accept_new_images: Annotated[
        bool, typer.Option("--accept-new-images", help="Take in images that the pool gained since the run began.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Run one experiment. The same command resumes it, and does nothing once it is finished.

    docs/config.md lists every key of the config. Where people annotate, or another program trains, the command ends
    with exit code 3 while their answers are missing.

    Example: alloop run configs/demo.yaml --set loop.rounds=3 --out runs/first
    """
    from alloop.config.reading import load_config  # noqa: PLC0415

    experiment = load_config(config, overrides)
    folder = out or Path("runs") / config.stem
    _check_before_torch_is_loaded(experiment, folder)
    from alloop.loop.engine import run_experiment  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415

    progress = Progress(quiet=quiet)
    while True:
        try:
            rounds = run_experiment(
                experiment,
                folder,
                strategy_table(),
                accept_partial=accept_partial,
                accept_revisions=accept_revisions,
                accept_new_images=accept_new_images,
                progress=progress,
            )
        except (WaitingError, UnreachableError) as waiting:
            if not wait:
                raise
            progress.say(f"{waiting}")
            time.sleep(WAIT_SECONDS)
        else:
            return _show_rounds(folder, rounds, experiment.task)


def _check_before_torch_is_loaded(config: "ExperimentConfig", folder: Path) -> None:
    """Refuse a config that cannot work, and for a run that has not begun, missing files of data."""
    from alloop.ledger.database import FILE  # noqa: PLC0415
    from alloop.loop.checks import check_config  # noqa: PLC0415
    from alloop.tasks.table import task_of  # noqa: PLC0415

    check_config(config, strategy_table())
    if not (folder / FILE).exists():
        task_of(config).refuse_missing(config.data)


def _show_rounds(folder: Path, rounds: "Sequence[RoundRecord]", task: str) -> None:
    from alloop.tables import Table, figure, show  # noqa: PLC0415

    metrics = measured(task)
    columns = ("round", "images", UNITS[task], *map(metric_title, metrics))
    rows = [(f"{r.round}", f"{r.images}", f"{r.boxes}", *(figure(r.metrics[key]) for key in metrics)) for r in rounds]
    show(Table(columns, rows, left=0), f"Ledger: alloop ledger {folder}   Report: alloop report {folder}")


FullLabel = Annotated[
    bool, typer.Option("--full-label", help="Add one run for each seed that trains on the whole pool.")
]
Replicates = Annotated[
    int,
    typer.Option(
        help="Repeat the runs of the first seed this many times, to measure how much equal runs differ.", min=0
    ),
]
Vary = Annotated[
    list[str],
    typer.Option(
        help="Run one study for each value of a key, in a folder of its own: "
        "--vary training.lr=0.001,0.002. Repeatable."
    ),
]


def study(
    config: ConfigFile,
    strategies: Strategies,
    seeds: Seeds = "0,1,2",
    workers: Workers = 1,
    full_label: FullLabel = False,
    replicates: Replicates = 0,
    vary: Vary = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder of the study; runs/<config name>_study by default.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run every strategy under every random seed, and compare. The same command resumes.

    All runs of a seed share the seed set and the model of round 0. `--strategies all` runs every strategy that the
    detector can serve.

    Example: alloop study configs/demo.yaml --strategies entropy,k_center --seeds 0,1,2 --workers 2
    """
    from alloop.config.overrides import parsed_values  # noqa: PLC0415
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.studies.grid import run_study, settings_of  # noqa: PLC0415

    experiment = load_config(config, overrides)
    progress = Progress(quiet=quiet)
    folder = out or Path("runs") / f"{config.stem}_study"
    values = dict(map(parsed_values, vary))
    settings = [name for name, _ in settings_of(experiment, values)]
    failures = run_study(
        experiment,
        folder,
        strategy_table(),
        strategies=_served(experiment, progress) if strategies == "all" else names_of(strategies),
        seeds=numbers_of("--seeds", seeds, int),
        workers=workers,
        full_label=full_label,
        replicates=replicates,
        vary=values,
        progress=progress,
        quiet=quiet,
    )
    _show_settings(folder, settings, config.stem)
    refuse_failures(failures)


def _show_settings(folder: Path, settings: "Sequence[str]", title: str) -> None:
    """Print the comparison of each setting that has a run; the only setting of a plain study has no name."""
    for setting in settings:
        if any(folder.glob(f"{setting or '.'}/*/run.db")):
            print(f"\n{setting}" if setting else "")
            _show_comparison(folder / setting, f"{title} {setting}".strip())


def _served(config: "ExperimentConfig", progress: "Progress") -> list[str]:
    """Return the strategies that the detector of a config can serve; report these and the others."""
    from alloop.studies.grid import served_by  # noqa: PLC0415

    served, others = served_by(config, strategy_table())
    progress.say(f"{len(served)} strategies: {', '.join(served)}")
    if others:
        reasons = [f"{name} needs {', '.join(needs)}" for name, needs in others.items()]
        progress.say(f"left out: {'; '.join(reasons)}")
    return served


def refuse_failures(failures: "Sequence[Failure]") -> None:
    """Raise AlloopError when runs of a study failed; the message lists them."""
    if failures:
        listed = "; ".join(f"{failure.arm}: {failure.reason}" for failure in failures)
        count = "1 run failed" if len(failures) == 1 else f"{len(failures)} runs failed"
        msg = f"{count}, the others are finished: {listed}"
        raise AlloopError(msg)


def _show_comparison(folder: Path, title: str) -> None:
    """Print the comparison of a study, and write its report."""
    from alloop.report.page import write_report  # noqa: PLC0415
    from alloop.report.text import comparison_blocks  # noqa: PLC0415
    from alloop.results.compare import reported_runs  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    comparison = reported_runs(folder)
    show(*comparison_blocks(comparison))
    write_report(comparison, folder / "report.html", title, strategy_table())
    print(f"\nReport: {folder / 'report.html'}")
