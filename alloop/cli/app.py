"""The commands: parse, call, print. The only file that imports the table of strategies."""

import csv
import io
import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from alloop.cli import data as data_commands
from alloop.cli import results as run_commands
from alloop.cli.options import (
    ConfigFile,
    Debug,
    Overrides,
    Quiet,
    TableFormat,
    one_paragraph,
)
from alloop.errors import AlloopError, ConfigError, UnreachableError, WaitingError

STRATEGIES_HELP = "Names, comma-separated; random is always run. Parameters of the config go to the strategy it names."
ALL_HELP = f"{STRATEGIES_HELP} `all`: whatever the detector serves."
REPLICATES_HELP = "Repeat the runs of the first seed so often, to measure by how much a run differs from itself."
VARY_HELP = "Values of a key, --vary training.lr=0.001,0.002: a study of each in a folder of its own. Repeatable."

WAIT_SECONDS = 30.0  # between two looks at what people have done
WAIT_HELP = "Where people are asked: look every 30 seconds instead of ending with exit code 3."
PARTIAL_HELP = "Close the round that waits with what came back; the rest returns to the pool."

T = TypeVar("T", int, float)
PRUNE_CONFIG_HELP = "Experiment whose detector is trained on the whole set, for strategies that need one."
PRUNE_SET_HELP = "Parameter of the strategy; instances=FILE also writes a score for each instance. Repeatable."

app = typer.Typer(
    name="alloop",
    help="Active learning for object detection with an exact account of every box that is paid for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _table() -> dict[str, str]:
    from strategies import TABLE  # noqa: PLC0415

    return TABLE


@app.command()
@one_paragraph
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Processes.", min=1)] = 2,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run the embedded study end to end: compare strategies on scenes of handwritten digits. No download."""
    del debug
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.studies.grid import run_study  # noqa: PLC0415

    config = load_config(Path(__file__).parent / "demo.yaml")
    progress, names = Progress(quiet=quiet), ["random", "entropy", "k_center"]
    failures = run_study(
        config, out, _table(), strategies=names, seeds=[0], workers=workers, progress=progress, quiet=quiet
    )
    _refuse_failures(failures)
    _show(out, "alloop demo: handwritten digits")


@app.command()
@one_paragraph
def run(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006  typer needs a list
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<config name> by default.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help=WAIT_HELP)] = False,
    accept_partial: Annotated[bool, typer.Option("--accept-partial", help=PARTIAL_HELP)] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run one experiment. The same command resumes it; a finished one does nothing. docs/config.md lists every key.

    Where people are asked (oracle), it ends with exit code 3 when their answers are needed.
    """
    del debug
    from alloop.config.reading import load_config  # noqa: PLC0415

    experiment = load_config(config, overrides)
    _check_strategy(experiment.strategy.name, experiment.strategy.parameters)
    from alloop.loop.engine import run_experiment  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415

    folder, progress = out or Path("runs") / config.stem, Progress(quiet=quiet)
    while True:
        try:
            rounds = run_experiment(experiment, folder, _table(), accept_partial=accept_partial, progress=progress)
        except (WaitingError, UnreachableError) as waiting:
            if not wait:
                raise
            progress.say(f"{waiting}")
            time.sleep(WAIT_SECONDS)
        else:
            return _print_rounds(folder, rounds)


def _check_strategy(name: str, parameters: dict[str, Any]) -> None:
    """A wrong strategy is refused before torch is loaded."""
    from alloop.strategy import make_strategy  # noqa: PLC0415

    make_strategy(name, parameters, _table())


def _print_rounds(folder: Path, rounds: list[Any]) -> None:
    print(f"{'round':>5} {'images':>7} {'boxes':>8} {'AP':>7} {'AP50':>7} {'AP75':>7}")
    for record in rounds:
        cells = ("-" if record.metrics[k] is None else f"{record.metrics[k]:.3f}" for k in ("ap", "ap50", "ap75"))
        print(f"{record.round:>5} {record.images:>7} {record.boxes:>8} " + " ".join(f"{cell:>7}" for cell in cells))
    print(f"Ledger: alloop ledger {folder}   Report: alloop report {folder}")


@app.command()
@one_paragraph
def study(
    config: ConfigFile,
    strategies: Annotated[str, typer.Option(help=ALL_HELP)],
    seeds: Annotated[str, typer.Option(help="Random seeds, comma-separated.")] = "0,1,2",
    workers: Annotated[int, typer.Option(help="Processes; the threads are divided.", min=1)] = 1,
    full_label: Annotated[bool, typer.Option("--full-label", help="Add a run on all labels per seed.")] = False,
    replicates: Annotated[int, typer.Option(help=REPLICATES_HELP, min=0)] = 0,
    vary: Annotated[list[str], typer.Option(help=VARY_HELP)] = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Study folder; runs/<config name>_study by default.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a grid of strategies and seeds that share seed sets and the round-0 model. The same command resumes."""
    del debug
    from alloop.config.reading import load_config, parsed_values  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.studies.grid import run_study, settings_of  # noqa: PLC0415

    experiment, progress = load_config(config, overrides), Progress(quiet=quiet)
    names = _served(experiment, progress) if strategies == "all" else _names(strategies)
    folder, values = out or Path("runs") / f"{config.stem}_study", dict(map(parsed_values, vary))
    settings = [name for name, _ in settings_of(experiment, values)]
    failures = run_study(
        experiment,
        folder,
        _table(),
        strategies=names,
        seeds=_numbers("--seeds", seeds, int),
        workers=workers,
        full_label=full_label,
        replicates=replicates,
        vary=values,
        progress=progress,
        quiet=quiet,
    )
    for setting in settings:
        if any(folder.glob(f"{setting or '.'}/*/run.db")):
            print(f"\n{setting}" if setting else "")
            _show(folder / setting, f"{config.stem} {setting}".strip())
    _refuse_failures(failures)


def _served(config: Any, progress: Any) -> list[str]:
    from alloop.studies.grid import served_by  # noqa: PLC0415

    served, others = served_by(config, _table())
    without = "; ".join(f"{name} needs {', '.join(needs)}" for name, needs in others.items())
    progress.say(f"{len(served)} strategies: {', '.join(served)}" + (f" (not {without})" if others else ""))
    return served


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str, kind: type[T]) -> list[T]:
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        example = "0,1,2" if kind is int else "0.3,0.5"
        msg = f"{option}: expected numbers such as {example}, found {text!r}"
        raise ConfigError(msg) from None


def _refuse_failures(failures: Any) -> None:
    if failures:
        listed = "; ".join(f"{failure.arm}: {failure.reason}" for failure in failures)
        msg = f"{len(failures)} runs failed, the others are finished: {listed}"
        raise AlloopError(msg)


def _show(folder: Path, title: str) -> None:
    from alloop.report.page import write_report  # noqa: PLC0415
    from alloop.report.text import to_table  # noqa: PLC0415
    from alloop.results.compare import compare_runs  # noqa: PLC0415

    comparison = compare_runs([folder], "ap50")
    print(to_table(comparison))
    write_report(comparison, folder / "report.html", title)
    print(f"\nReport: {folder / 'report.html'}")


@app.command(name="strategies")
@one_paragraph
def list_strategies(
    output: Annotated[TableFormat, typer.Option("--format", help="table or json.")] = TableFormat.TABLE,
    debug: Debug = False,
) -> None:
    """List the strategies with what they need and where they come from."""
    del debug
    from alloop.strategy import describe, strategy_lines  # noqa: PLC0415

    rows = describe(_table())
    if output is TableFormat.JSON:
        print(json.dumps(rows, indent=2))
    elif output is TableFormat.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "needs", "parameters", "source"])
        writer.writerows([r["name"], " ".join(r["needs"]), json.dumps(r["parameters"]), r["source"]] for r in rows)
    else:
        print("\n".join(strategy_lines(rows)))


@app.command()
@one_paragraph
def prune(
    annotations: Annotated[Path, typer.Argument(help="COCO JSON file, plain or gzipped.")],
    strategy: Annotated[str, typer.Option(help="What chooses, for example tfdp, csod or random.")],
    out: Annotated[Path, typer.Option(help="Subset as COCO JSON; records that stay keep their bytes.")],
    keep: Annotated[float | None, typer.Option(help="Share of the images to keep, for example 0.5.")] = None,
    images: Annotated[int | None, typer.Option(help="Or their number.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Also write image_id, score, rank, kept as CSV.")] = None,
    config: Annotated[Path | None, typer.Option(help=PRUNE_CONFIG_HELP)] = None,
    overrides: Annotated[list[str], typer.Option("--set", help=PRUNE_SET_HELP)] = [],  # noqa: B006
    random_seed: Annotated[int, typer.Option("--seed", help="Of all random choices.")] = 0,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Choose which images of an annotated set are worth training on, and write that part of it."""
    del debug
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.pruning.coco_file import prune_file  # noqa: PLC0415

    told = prune_file(
        annotations,
        strategy,
        overrides,
        out,
        _table(),
        keep=keep,
        number=images,
        scores=scores,
        config=config,
        random_seed=random_seed,
        progress=Progress(quiet=quiet),
    )
    print("\n".join(told))


@app.command(name="prune-study")
@one_paragraph
def prune_study(
    config: ConfigFile,
    strategies: Annotated[str, typer.Option(help=STRATEGIES_HELP)],
    keep: Annotated[str, typer.Option(help="LossSums of the images to keep, comma-separated.")] = "0.3,0.5",
    seeds: Annotated[str, typer.Option(help="Random seeds, comma-separated.")] = "0,1,2",
    workers: Annotated[int, typer.Option(help="Processes; the threads are divided.", min=1)] = 1,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Folder; runs/<config name>_pruned by default.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Prune with several strategies, train on each subset and on everything, compare. The same command resumes."""
    del debug
    from alloop.config.reading import load_config  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.pruning.report import write_pruned  # noqa: PLC0415
    from alloop.pruning.study import PruneStudy  # noqa: PLC0415

    study_ = PruneStudy(
        load_config(config, overrides),
        out or Path("runs") / f"{config.stem}_pruned",
        _table(),
        names=_names(strategies),
        keeps=_numbers("--keep", keep, float),
        seeds=_numbers("--seeds", seeds, int),
        workers=workers,
    )
    failures = study_.run(Progress(quiet=quiet), quiet=quiet)
    print(write_pruned(study_.results(), study_.out))
    _refuse_failures(failures)


for name in ("status", "ledger", "verify", "compare", "report"):
    app.command(name=name)(getattr(run_commands, name))
app.command(name="check-data")(data_commands.check_data)
app.command()(data_commands.convert)
app.command(name="import")(data_commands.import_)
app.command(name="export-digits")(data_commands.export_digits)


def main() -> None:
    """Entry point of the `alloop` command."""
    try:
        app()
    except BrokenPipeError:  # a reader such as `head` that leaves early is not an error
        sys.stdout = io.TextIOWrapper(io.BytesIO())
        sys.exit(0)
