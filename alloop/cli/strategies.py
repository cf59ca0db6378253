"""`alloop strategies`, and the table of strategies. The only module of the package that imports the table."""

import json
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from alloop.cli.options import TableFormat

_WIDTH = 100  # characters of a line of parameters


def strategy_table() -> dict[str, str]:
    """Return the strategies by name, as import paths."""
    from strategies import TABLE  # noqa: PLC0415  loaded only where a command needs it

    return TABLE


def complete_names(incomplete: str) -> list[str]:
    """Return how the last of several names, comma-separated, may go on; the shell asks for it."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in ("all", *strategy_table()) if name.startswith(last)]


Strategies = Annotated[
    str,
    typer.Option(
        autocompletion=complete_names,
        help="Names of strategies, comma-separated, for example entropy,k_center. `random` always runs as well. "
        "The parameters in the config are given to the strategy that the config names.",
    ),
]


def list_strategies(
    output: Annotated[TableFormat, typer.Option("--format", help="Print a table, JSON or CSV.")] = "table",
) -> None:
    """List the strategies: what each needs, where it comes from, and its parameters with their defaults."""
    from alloop.strategy import describe  # noqa: PLC0415
    from alloop.tables import Table, csv_text, show  # noqa: PLC0415

    rows = describe(strategy_table())
    if output == "json":
        print(json.dumps(rows, indent=2))
    elif output == "csv":
        cells = [[r["name"], " ".join(r["needs"]), json.dumps(r["parameters"]), r["source"]] for r in rows]
        print(csv_text(["name", "needs", "parameters", "source"], cells), end="")
    else:
        needs = [(row["name"], row["source"], ", ".join(row["needs"]) or "-") for row in rows]
        parameters = [(row["name"], _parameters(row["parameters"])) for row in rows if row["parameters"]]
        show(
            Table(("strategy", "source", "needs of the detector and the training"), needs, left=3),
            "",
            Table(("strategy", "parameters and their defaults"), parameters, left=2),
        )


def _parameters(parameters: Mapping[str, Any]) -> str:
    return textwrap.fill(", ".join(f"{key}={value}" for key, value in parameters.items()), _WIDTH)
