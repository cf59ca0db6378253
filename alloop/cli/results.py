"""The commands that read finished and unfinished runs."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from alloop.cli.options import (
    AnyFolder,
    CompareMetric,
    CompareTest,
    Debug,
    Folders,
    RunFolder,
    TableFormat,
    one_paragraph,
)

COST_HELP = "What the curves are drawn over: boxes, images, seconds, booked, draw, extreme_click, or image=.1,box=.6."
TEST_HELP = "t: Student's interval and test; permutation (of signs) or wilcoxon: with a bootstrap interval."


@one_paragraph
def status(folder: AnyFolder, debug: Debug = False) -> None:
    """Tell where a run stands, or every run of a study."""
    del debug
    from alloop.results.status import status_lines  # noqa: PLC0415

    for line in status_lines(folder):
        print(line)


@one_paragraph
def ledger(
    folder: RunFolder,
    output: Annotated[TableFormat, typer.Option("--format", help="csv or json.")] = TableFormat.CSV,
    debug: Debug = False,
) -> None:
    """Print every charge; as JSON with the boxes that were predicted when the image was chosen."""
    del debug
    from dataclasses import asdict  # noqa: PLC0415

    from alloop.ledger.store import read_ledger  # noqa: PLC0415

    with read_ledger(folder) as book:
        rows = [asdict(charge) for charge in book.charges()]
    if output is TableFormat.JSON:
        print(json.dumps(rows))
        return
    columns = ["round", "image_id", "boxes", "seconds", "cost"]
    writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


@one_paragraph
def verify(folder: AnyFolder, debug: Debug = False) -> None:
    """Recheck every invariant and hash of a run, or of every run of a study; exit 76 when anything is wrong."""
    del debug
    from alloop.errors import DamagedFileError  # noqa: PLC0415
    from alloop.ledger.audit import audit  # noqa: PLC0415
    from alloop.ledger.store import read_ledger, run_folders  # noqa: PLC0415

    wrong = []
    for run_folder in run_folders(folder):
        with read_ledger(run_folder) as book:
            found = audit(book)
            wrong += [f"{run_folder}: {finding}" for finding in found]
            if not found:
                charges, files = len(book.charges()), len(book.files())
                print(f"{run_folder}: {charges} charges and {files} files agree with their records")
    if wrong:
        raise DamagedFileError(f"{folder}: {len(wrong)} findings:\n  " + "\n  ".join(wrong[:20]))


@one_paragraph
def compare(
    folders: Folders,
    target_ap: Annotated[float | None, typer.Option(help="Also tell the boxes needed for this AP.")] = None,
    at_paid: Annotated[float | None, typer.Option("--at", help="Also tell the AP at so many boxes.")] = None,
    metric: Annotated[CompareMetric, typer.Option(help="What the curves show.")] = CompareMetric.AP,
    cost: Annotated[str, typer.Option(help=COST_HELP)] = "boxes",
    test: Annotated[CompareTest, typer.Option(help=TEST_HELP)] = CompareTest.T,
    classes: Annotated[bool, typer.Option("--classes", help="Also tell boxes and AP of each class.")] = False,
    paper: Annotated[str | None, typer.Option(help="Also lay a published table over it: isal.table4.")] = None,
    output: Annotated[TableFormat, typer.Option("--format", help="table, json or csv.")] = TableFormat.TABLE,
    debug: Debug = False,
) -> None:
    """Compare strategies with random at equal boxes, or at another equal cost."""
    del debug
    from alloop.budget.prices import cost_model  # noqa: PLC0415
    from alloop.report.text import class_lines, classes_json, dumps, to_csv, to_json, to_table  # noqa: PLC0415
    from alloop.results.class_balance import class_balance  # noqa: PLC0415
    from alloop.results.compare import compare_runs  # noqa: PLC0415
    from alloop.results.published import published_table  # noqa: PLC0415

    comparison = compare_runs(folders, metric.value, test.value, cost_model(cost))
    balance = class_balance(comparison) if classes else None
    if output is TableFormat.JSON:
        print(dumps(to_json(comparison) | ({"classes": classes_json(balance)} if balance else {})))
    elif output is TableFormat.CSV:
        print(to_csv(comparison), end="")
    else:
        print(to_table(comparison, target_ap, at_paid))
        if classes:
            print("", *class_lines(balance), sep="\n")
        if paper is not None:
            print("", *published_table(paper, comparison), sep="\n")


@one_paragraph
def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run or a study.")],
    out: Annotated[Path | None, typer.Option(help="HTML file; report.html in the folder by default.")] = None,
    metric: Annotated[CompareMetric, typer.Option(help="What the verdicts are about.")] = CompareMetric.AP50,
    cost: Annotated[str, typer.Option(help=COST_HELP)] = "boxes",
    test: Annotated[CompareTest, typer.Option(help=TEST_HELP)] = CompareTest.T,
    debug: Debug = False,
) -> None:
    """Write one offline HTML file, with the same numbers beside it as CSV and JSON."""
    del debug
    from alloop.budget.prices import cost_model  # noqa: PLC0415
    from alloop.report.page import write_report  # noqa: PLC0415
    from alloop.results.compare import compare_runs  # noqa: PLC0415

    comparison = compare_runs([folder], metric.value, test.value, cost_model(cost))
    for path in write_report(comparison, out or folder / "report.html", f"alloop: {folder.name}"):
        print(path)
