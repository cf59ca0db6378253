"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

from alloop.errors import ConfigError

Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
AnyFolder = Annotated[Path, typer.Argument(help="Folder of a run or of a study.")]
Folders = Annotated[list[Path], typer.Argument(help="Folders of runs or studies.")]
ConfigFile = Annotated[Path, typer.Argument(help="The experiment as YAML, for example configs/demo.yaml.")]
Overrides = Annotated[
    list[str], typer.Option("--set", help="Change one key of the config: --set loop.rounds=3. Repeatable.")
]
Seeds = Annotated[str, typer.Option(help="Random seeds, comma-separated; each strategy runs once for each of them.")]
Workers = Annotated[int, typer.Option(help="Number of processes; they share the CPU threads.", min=1)]

TableFormat = Literal["table", "json", "csv"]
T = TypeVar("T", int, float)


def names_of(text: str) -> list[str]:
    """Split a comma-separated option into its parts."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers_of(option: str, text: str, kind: type[T]) -> list[T]:
    """Split a comma-separated option into numbers, and drop repeated ones.

    Raises:
        ConfigError: a part is not a number.
    """
    try:
        return list(dict.fromkeys(kind(part) for part in text.split(",")))
    except ValueError:
        example = "0,1,2" if kind is int else "0.3,0.5"
        msg = f"{option}: expected numbers such as {example}, found {text!r}"
        raise ConfigError(msg) from None
