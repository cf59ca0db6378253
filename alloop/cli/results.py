"""The commands that read runs: `status`, `ledger`, `verify`, `compare` and `report`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import AnyFolder, Folders, RunFolder, TableFormat
from alloop.cli.strategies import strategy_table
from alloop.results.names import Metric, Test

Cost = Annotated[
    str | None,
    typer.Option(
        help="What the curves are drawn against: boxes (by default; images of classification), images, seconds, "
        "booked, draw or extreme_click, or prices such as image=.1,box=.6,unit=EUR."
    ),
]
TestName = Annotated[
    Test,
    typer.Option(
        help="Significance test: t has Student's interval; permutation (of signs) and wilcoxon have a bootstrap one."
    ),
]

OverGroups = Annotated[
    bool,
    typer.Option(
        "--over-groups",
        help="Also print 95 % intervals over the groups of the test images. The runs need data.groups and "
        "evaluation.keep_detections.",
    ),
]
Resamples = Annotated[int, typer.Option(min=100, help="How often --over-groups draws the test groups.")]
Paper = Annotated[
    str | None, typer.Option(help="Also print a published table beside the runs, for example isal.table4.")
]


def status(
    folder: AnyFolder,
    worth: Annotated[
        float, typer.Option(help="AP that another round should gain; the advice to stop compares with it.")
    ] = 0.005,
) -> None:
    """Print the progress of a run, or of every run of a study. Runs that are under way can be read as well."""
    from alloop.results.status import status_blocks  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    show(*status_blocks(folder, worth))


def ledger(
    folder: RunFolder,
    output: Annotated[TableFormat, typer.Option("--format", help="Print CSV or JSON.")] = "csv",
) -> None:
    """Print every charge of a run: round, image, boxes, seconds and cost.

    JSON also has the number of boxes that was predicted when the image was chosen.
    """
    from dataclasses import asdict  # noqa: PLC0415

    from alloop.ledger.store import read_ledger  # noqa: PLC0415
    from alloop.tables import csv_text  # noqa: PLC0415

    with read_ledger(folder) as run_ledger:
        rows = [asdict(charge) for charge in run_ledger.charges()]
    if output == "json":
        print(json.dumps(rows))
        return
    columns = ["round", "image_id", "boxes", "seconds", "cost"]
    print(csv_text(columns, [[row[column] for column in columns] for row in rows]), end="")


def verify(folder: AnyFolder) -> None:
    """Check every invariant and hash of a run, or of every run of a study. Exit with 76 when anything is wrong."""
    from alloop.errors import DamagedFileError  # noqa: PLC0415
    from alloop.ledger.audit import verified_lines  # noqa: PLC0415
    from alloop.ledger.store import read_ledger, run_folders  # noqa: PLC0415

    wrong = []
    for run_folder in run_folders(folder):
        with read_ledger(run_folder) as run_ledger:
            lines, findings = verified_lines(run_ledger)
        wrong += [f"{run_folder}: {finding}" for finding in findings]
        for line in lines:
            print(f"{run_folder}: {line}")
    if wrong:
        raise DamagedFileError(f"{folder}: {len(wrong)} findings:\n  " + "\n  ".join(wrong[:20]))


def compare(
    folders: Folders,
    target_ap: Annotated[float | None, typer.Option(help="Also print the boxes that are needed for this AP.")] = None,
    at_paid: Annotated[
        float | None, typer.Option("--at", help="Also print the AP after this many boxes (or at this cost).")
    ] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Metric of the curves; ap by default, accuracy of classification.")
    ] = None,
    cost: Cost = None,
    test: TestName = "t",
    classes: Annotated[bool, typer.Option("--classes", help="Also print boxes and AP of each class.")] = False,
    paper: Paper = None,
    over_groups: OverGroups = False,
    resamples: Resamples = 2000,
    output: Annotated[TableFormat, typer.Option("--format", help="Print a table, JSON or CSV.")] = "table",
) -> None:
    """Compare strategies with random selection at an equal number of boxes, or at another equal cost.

    Example: alloop compare runs/demo_study --target-ap 0.3
    """
    from alloop.budget.prices import cost_model  # noqa: PLC0415
    from alloop.report.numbers import classes_json, dumps, to_csv, to_json  # noqa: PLC0415
    from alloop.report.over_groups import group_blocks, groups_columns, groups_json  # noqa: PLC0415
    from alloop.report.text import class_blocks, comparison_blocks  # noqa: PLC0415
    from alloop.results.class_balance import class_balance  # noqa: PLC0415
    from alloop.results.compare import compare_runs  # noqa: PLC0415
    from alloop.results.group_intervals import group_intervals  # noqa: PLC0415
    from alloop.results.published import published_table  # noqa: PLC0415
    from alloop.tables import show  # noqa: PLC0415

    comparison = compare_runs(folders, metric, test, None if cost is None else cost_model(cost))
    balance = class_balance(comparison) if classes else None
    over = group_intervals(comparison, resamples) if over_groups else None
    if output == "json":
        tree = to_json(comparison) | ({"classes": classes_json(balance)} if balance else {})
        print(dumps(tree | ({"over_groups": groups_json(over)} if over else {})))
    elif output == "csv":
        print(to_csv(comparison, groups_columns(over) if over else None), end="")
    else:
        show(*comparison_blocks(comparison, target_ap, at_paid))
        if over:
            show("", *group_blocks(comparison, over))
        if classes:
            show("", *class_blocks(balance))
        if paper is not None:
            show("", *published_table(paper, comparison))


def report(
    folder: AnyFolder,
    out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the folder by default.")] = None,
    metric: Annotated[
        Metric | None, typer.Option(help="Metric of the verdicts; ap50 by default, accuracy of classification.")
    ] = None,
    cost: Cost = None,
    test: TestName = "t",
) -> None:
    """Write one HTML file that needs no network, with the same numbers beside it as CSV and JSON."""
    from alloop.budget.prices import cost_model  # noqa: PLC0415
    from alloop.report.page import write_report  # noqa: PLC0415
    from alloop.results.compare import reported_runs  # noqa: PLC0415

    comparison = reported_runs(folder, metric, test, None if cost is None else cost_model(cost))
    page = out or folder / "report.html"
    for path in write_report(comparison, page, f"alloop: {folder.name}", strategy_table()):
        print(path)
