"""The program `alloop`: which commands there are.

Only typer is imported before a command runs; each command imports what it needs.
"""

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from alloop.cli import (
    ask,
    data,
    export,
    forecast,
    init,
    pruning,
    results,
    review,
    runs,
    select,
    split,
    strategies,
    watch,
)
from alloop.cli.command import command

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": runs.demo,
    "init": init.init,
    "run": runs.run,
    "study": runs.study,
    "strategies": strategies.list_strategies,
    "prune": pruning.prune,
    "prune-study": pruning.prune_study,
    "select": select.select,
    "status": results.status,
    "ask": ask.ask,
    "watch": watch.watch,
    "review": review.review,
    "ledger": results.ledger,
    "verify": results.verify,
    "compare": results.compare,
    "report": results.report,
    "forecast": forecast.forecast,
    "export": export.export,
    "check-data": data.check_data,
    "split": split.split,
    "convert": data.convert,
    "import": data.import_,
    "export-digits": data.export_digits,
}

app = typer.Typer(
    name="alloop",
    help="Active learning for object detection with an exact account of every box that is paid for.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for name, function in COMMANDS.items():
    app.command(name)(command(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        from alloop import __version__  # noqa: PLC0415

        print(f"alloop {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command that the arguments name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class name may have letters that the encoding lacks
    try:
        app()
    except BrokenPipeError:  # a reader such as `head` that leaves early is not an error
        sys.stdout = io.TextIOWrapper(io.BytesIO())
        sys.exit(0)
