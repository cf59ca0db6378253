"""The commands: parse, call, print. The only file that imports the table of strategies."""

import csv
import io
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alloop.errors import AlloopError, ConfigError

if TYPE_CHECKING:
    from alloop.data.records import DataSet, Records

app = typer.Typer(
    name="alloop",
    help="Active learning for object detection with an exact account of every box that is paid for.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
Folders = Annotated[list[Path], typer.Argument(help="Folders of runs or studies.")]
ConfigFile = Annotated[Path, typer.Argument(help="Experiment as YAML, for example configs/demo.yaml.")]
Overrides = Annotated[list[str], typer.Option("--set", help="Override one key: --set loop.rounds=3. Repeatable.")]


class TableFormat(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class AnnotationFormat(StrEnum):
    """Annotation formats."""

    COCO = "coco"
    VOC = "voc"
    YOLO = "yolo"


class CompareMetric(StrEnum):
    """What curves show."""

    AP = "ap"
    AP50 = "ap50"
    AP75 = "ap75"


def one_paragraph(command: Callable[..., None]) -> Callable[..., None]:
    """Turn our errors into one paragraph and their exit code; other errors too, unless --debug is given."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        debug = kwargs.get("debug", False)
        try:
            command(*args, **kwargs)
        except AlloopError as error:
            if debug:
                raise
            print(f"alloop: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if debug or isinstance(error, BrokenPipeError):
                raise
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            print(f"alloop: {type(error).__name__}: {what}. Nothing that was booked is lost; "
                  "mend the cause and run the same command again.", file=sys.stderr)  # fmt: skip
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("alloop: stopped; the same command goes on from here.", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped


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
    from alloop.config import load_config  # noqa: PLC0415

    config = load_config(Path(__file__).parent / "demo.yaml")
    _study(config, out, ["random", "entropy", "k_center"], [0], workers, full_label=False, quiet=quiet)
    _show(out, "alloop demo: handwritten digits")


@app.command()
@one_paragraph
def run(
    config: ConfigFile,
    overrides: Overrides = [],  # noqa: B006  typer needs a list
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<config name> by default.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run one experiment. The same command resumes it; a finished one does nothing."""
    del debug
    from alloop.config import load_config  # noqa: PLC0415

    experiment = load_config(config, overrides)
    _check_strategy(experiment.strategy.name, experiment.strategy.parameters)
    from alloop.engine import run_experiment  # noqa: PLC0415
    from alloop.progress import Progress  # noqa: PLC0415

    folder = out or Path("runs") / config.stem
    rounds = run_experiment(experiment, folder, _table(), progress=Progress(quiet=quiet))
    _print_rounds(folder, rounds)


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
    strategies: Annotated[str, typer.Option(help="Names, comma-separated; random is always run.")],
    seeds: Annotated[str, typer.Option(help="Random seeds, comma-separated.")] = "0,1,2",
    workers: Annotated[int, typer.Option(help="Processes; the threads are divided.", min=1)] = 1,
    full_label: Annotated[bool, typer.Option("--full-label", help="Add a run on all labels per seed.")] = False,
    overrides: Overrides = [],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="Study folder; runs/<config name>_study by default.")] = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Run a grid of strategies and seeds that share seed sets and the round-0 model. The same command resumes."""
    del debug
    from alloop.config import load_config  # noqa: PLC0415

    names = [name.strip() for name in strategies.split(",") if name.strip()]
    try:
        numbers = [int(text) for text in seeds.split(",")]
    except ValueError:
        msg = f"--seeds: expected whole numbers such as 0,1,2, found {seeds!r}"
        raise ConfigError(msg) from None
    folder = out or Path("runs") / f"{config.stem}_study"
    _study(load_config(config, overrides), folder, names, numbers, workers, full_label=full_label, quiet=quiet)
    _show(folder, config.stem)


def _study(
    config: Any, out: Path, names: list[str], seeds: list[int], workers: int, *, full_label: bool, quiet: bool
) -> None:
    from alloop.progress import Progress  # noqa: PLC0415
    from alloop.study import run_study  # noqa: PLC0415

    failures = run_study(
        config,
        out,
        _table(),
        strategies=names,
        seeds=seeds,
        workers=workers,
        full_label=full_label,
        progress=Progress(quiet=quiet),
        quiet=quiet,
    )
    if failures:
        listed = "; ".join(f"{failure.arm}: {failure.reason}" for failure in failures)
        msg = f"{len(failures)} runs failed, the others are finished: {listed}"
        raise AlloopError(msg)


def _show(folder: Path, title: str) -> None:
    from alloop.compare import compare_runs, to_table  # noqa: PLC0415
    from alloop.report.page import write_report  # noqa: PLC0415

    comparison = compare_runs([folder], "ap50")
    print(to_table(comparison))
    write_report(comparison, folder / "report.html", title)
    print(f"\nReport: {folder / 'report.html'}")


@app.command()
@one_paragraph
def status(folder: RunFolder, debug: Debug = False) -> None:
    """Tell where a run stands."""
    del debug
    from alloop.ledger import read_ledger  # noqa: PLC0415

    with read_ledger(folder) as ledger:
        facts, rounds, spent, current = ledger.facts(), ledger.rounds(), ledger.spent(), ledger.open_round()
        pool = len(ledger.image_hashes())
        steps = [step for _, _, step in ledger.files(current) if step is not None] if current is not None else []
    planned = facts.get("rounds_planned", "?")
    state = "finished" if current is None and rounds else f"round {current} is open" if rounds or facts else "not begun"
    print(f"strategy {facts.get('strategy', '?')}, random seed {facts.get('random_seed', '?')}: {state}")
    print(
        f"rounds   {len(rounds)} of {planned} done" + (f"; training checkpoint at step {max(steps)}" if steps else "")
    )
    print(f"paid     {spent.images} of {pool} images, {spent.boxes} boxes" + _budget(facts.get("budget")))
    if rounds:
        values = rounds[-1].metrics
        print("last     " + ", ".join(f"{k} {v:.3f}" for k, v in values.items() if v is not None))


def _budget(text: str | None) -> str:
    return f"; budget {text}" if text else "; no budget"


@app.command()
@one_paragraph
def ledger(
    folder: RunFolder,
    output: Annotated[TableFormat, typer.Option("--format", help="csv or json.")] = TableFormat.CSV,
    debug: Debug = False,
) -> None:
    """Print every charge."""
    del debug
    from dataclasses import asdict  # noqa: PLC0415

    from alloop.ledger import read_ledger  # noqa: PLC0415

    with read_ledger(folder) as book:
        rows = [asdict(charge) for charge in book.charges()]
    if output is TableFormat.JSON:
        print(json.dumps(rows))
        return
    writer = csv.DictWriter(sys.stdout, ["round", "image_id", "boxes", "seconds", "cost"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


@app.command()
@one_paragraph
def verify(folder: RunFolder, debug: Debug = False) -> None:
    """Recheck every invariant and hash of a run; exit 76 when anything is wrong."""
    del debug
    from alloop.errors import DamagedFileError  # noqa: PLC0415
    from alloop.ledger import read_ledger  # noqa: PLC0415

    with read_ledger(folder) as book:
        wrong = book.verify()
        charges, files = len(book.charges()), len(book.files())
    if wrong:
        raise DamagedFileError(f"{folder}: {len(wrong)} findings:\n  " + "\n  ".join(wrong[:20]))
    print(f"{folder}: {charges} charges and {files} files agree with their records")


@app.command(name="strategies")
@one_paragraph
def list_strategies(
    output: Annotated[TableFormat, typer.Option("--format", help="table or json.")] = TableFormat.TABLE,
    debug: Debug = False,
) -> None:
    """List the strategies with what they need and where they come from."""
    del debug
    from alloop.strategy import describe  # noqa: PLC0415

    rows = describe(_table())
    if output is TableFormat.JSON:
        print(json.dumps(rows, indent=2))
    elif output is TableFormat.CSV:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["name", "needs", "parameters", "source"])
        writer.writerows([r["name"], " ".join(r["needs"]), json.dumps(r["parameters"]), r["source"]] for r in rows)
    else:
        print(f"{'name':<20}{'needs':<14}{'source':<26}parameters")
        for row in rows:
            parameters = ", ".join(f"{key}={value}" for key, value in row["parameters"].items())
            print(f"{row['name']:<20}{', '.join(row['needs']) or '-':<14}{row['source']:<26}{parameters or '-'}")


@app.command()
@one_paragraph
def compare(
    folders: Folders,
    target_ap: Annotated[float | None, typer.Option(help="Also tell the boxes needed for this AP.")] = None,
    metric: Annotated[CompareMetric, typer.Option(help="What the curves show.")] = CompareMetric.AP,
    output: Annotated[TableFormat, typer.Option("--format", help="table, json or csv.")] = TableFormat.TABLE,
    debug: Debug = False,
) -> None:
    """Compare strategies with random at equal boxes."""
    del debug
    from alloop.compare import compare_runs, dumps, to_csv, to_json, to_table  # noqa: PLC0415

    comparison = compare_runs(folders, metric.value)
    if output is TableFormat.JSON:
        print(dumps(to_json(comparison)))
    elif output is TableFormat.CSV:
        print(to_csv(comparison), end="")
    else:
        print(to_table(comparison, target_ap))


@app.command()
@one_paragraph
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or a study.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the folder by default.")] = None,
    debug: Debug = False,
) -> None:
    """Write one offline HTML file, with the same numbers beside it as CSV and JSON."""
    del debug
    from alloop.compare import compare_runs  # noqa: PLC0415
    from alloop.report.page import write_report  # noqa: PLC0415

    for path in write_report(compare_runs([folder], "ap50"), out or folder / "report.html", f"alloop: {folder.name}"):
        print(path)


@app.command(name="check-data")
@one_paragraph
def check_data(
    annotations: Annotated[Path, typer.Argument(help="COCO JSON file, VOC folder or YOLO folder.")],
    images: Annotated[Path | None, typer.Option(help="Also decode every image of this folder.")] = None,
    from_: Annotated[AnnotationFormat | None, typer.Option("--from", help="Guessed by default.")] = None,
    debug: Debug = False,
) -> None:
    """Validate a data set: counts, and every problem with its file, id and reason. Exit 1 when unusable."""
    del debug
    from alloop.data.records import find_problems, validate  # noqa: PLC0415
    from alloop.data.splits import READERS  # noqa: PLC0415

    format_ = from_.value if from_ else guess_format(annotations)
    records = READERS[format_](annotations)
    problems = find_problems(records, annotations.name)
    _print_counts(records)
    unreadable: list[str] = []
    if images is not None and not any(problem.verdict == "refused" for problem in problems):
        unreadable = _unreadable(validate(records, annotations.name), images)
    _print_problems([str(problem) for problem in problems] + unreadable)
    refused = sum(problem.verdict == "refused" for problem in problems) + len(unreadable)
    if refused:
        msg = f"{annotations}: {refused} findings make it unusable; they are listed above as refused"
        raise AlloopError(msg)
    print("usable: yes")


def guess_format(path: Path) -> str:
    """A file is COCO; a folder with labels/ is YOLO; another folder is VOC."""
    if path.is_dir():
        return "yolo" if (path / "labels").is_dir() else "voc"
    return "coco"


def _print_counts(records: "Records") -> None:
    from collections import Counter  # noqa: PLC0415

    per_class = Counter(box.category_id for box in records.annotations)
    per_image = Counter(box.image_id for box in records.annotations)
    counts = sorted(per_image.get(image.id, 0) for image in records.images)
    total, images = len(records.annotations), len(records.images)
    print(f"images {images}, boxes {total}, classes {len(records.categories)}")
    print(f"crowd {sum(box.iscrowd for box in records.annotations)}, images without a box {counts.count(0)}")
    if counts:
        middle, mean = counts[images // 2], total / images
        print(f"boxes per image: least {counts[0]}, median {middle}, most {counts[-1]}, mean {mean:.2f}")
    for category in sorted(records.categories, key=lambda c: -per_class[c.id]):
        print(f"  {category.name} (id {category.id}): {per_class[category.id]}")


def _print_problems(lines: list[str], limit: int = 200) -> None:
    from collections import Counter  # noqa: PLC0415

    verdicts = Counter(line.partition(":")[0] for line in lines)
    print("problems: " + (", ".join(f"{count} {name}" for name, count in verdicts.items()) or "none"))
    for line in lines[:limit]:
        print(f"  {line}")
    if len(lines) > limit:
        print(f"  and {len(lines) - limit} more")


def _unreadable(dataset: "DataSet", root: Path) -> list[str]:
    from alloop.data.images import FolderImages  # noqa: PLC0415
    from alloop.errors import DataError  # noqa: PLC0415

    source, found = FolderImages(root, dataset.images), []
    for image_id in dataset.images:
        try:
            source.read(image_id)
        except DataError as error:
            found.append(f"refused: {error}")
    return found


@app.command()
@one_paragraph
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="COCO JSON file, VOC folder or YOLO folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="What to write; must not exist yet.")],
    from_: Annotated[AnnotationFormat, typer.Option("--from", help="Format of IN.")],
    to: Annotated[AnnotationFormat, typer.Option("--to", help="Format of OUT.")],
    debug: Debug = False,
) -> None:
    """Convert annotations without losing a box, a crowd flag or an empty image. Images are not copied."""
    del debug
    from alloop.data.convert import convert_annotations  # noqa: PLC0415

    print(convert_annotations(source, target, from_.value, to.value))


@app.command(name="export-digits")
@one_paragraph
def export_digits(
    out: Annotated[Path, typer.Argument(help="Folder for the COCO files and PNG images.")],
    overrides: Annotated[list[str], typer.Option("--set", help="Parameter: --set pool=200. Repeatable.")] = [],  # noqa: B006
    debug: Debug = False,
) -> None:
    """Write the embedded set, digit_scenes, as COCO JSON files and PNG images."""
    del debug
    from alloop.data.convert import export_digit_scenes  # noqa: PLC0415

    for path in export_digit_scenes(out, overrides):
        print(path)


def _redirect_broken_output() -> None:
    """A reader such as `head` that leaves early is not an error."""
    sys.stdout = io.TextIOWrapper(io.BytesIO())


def main() -> None:
    """Entry point of the `alloop` command."""
    try:
        app()
    except BrokenPipeError:
        _redirect_broken_output()
        sys.exit(0)
