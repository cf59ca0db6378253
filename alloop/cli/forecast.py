"""The command `forecast`."""

import json
from typing import Annotated, Literal

import typer

from alloop.cli.options import AnyFolder
from alloop.errors import ConfigError
from alloop.results.names import Metric, metric_title


def forecast(
    folder: AnyFolder,
    target_ap: Annotated[
        float | None, typer.Option(help="Say after how many boxes AP is this high.", min=0, max=1)
    ] = None,
    boxes: Annotated[
        float | None,
        typer.Option(help="Say how high AP is after this many boxes, in total; by default twice those paid.", min=1),
    ] = None,
    metric: Annotated[Metric, typer.Option(help="Metric of the curve.")] = "ap",
    output: Annotated[Literal["table", "json"], typer.Option("--format", help="Print a table or JSON.")] = "table",
) -> None:
    """Say how AP goes on: after how many boxes it reaches a target, or how high it is after a number of boxes.

    A curve with a ceiling is fitted to the rounds of each run. Such forecasts were tested on recorded curves, up to
    twice the boxes paid; beyond that, only a lower bound is given.

    Example: alloop forecast runs/entropy --target-ap 0.6
    """
    from alloop.results.forecasts import run_forecasts  # noqa: PLC0415
    from alloop.tables import Table, show  # noqa: PLC0415

    found = run_forecasts(folder, metric)
    if not found:
        msg = f"{folder}: no run has a second round yet, so there is no curve to continue"
        raise ConfigError(msg)
    if output == "json":
        print(json.dumps([one.plain(target_ap, boxes) for one in found], indent=2))
        return
    name = metric_title(metric)
    columns = ["run", "boxes", name]
    rows = [[one.name, f"{one.boxes[-1]:.0f}", f"{one.values[-1]:.3f}"] for one in found]
    if target_ap is not None:
        columns.append(f"{name} {target_ap:g}")
        rows = [[*row, one.target(target_ap)] for row, one in zip(rows, found, strict=True)]
    if boxes is not None or target_ap is None:
        columns.append(f"{name} forecast")
        rows = [[*row, one.after(boxes)] for row, one in zip(rows, found, strict=True)]
    show(Table(columns, rows))
