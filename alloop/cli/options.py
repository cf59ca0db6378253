"""What all commands share: options, and errors as one paragraph with their exit code."""

import sys
import warnings
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from alloop.errors import AlloopError

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
AnyFolder = Annotated[Path, typer.Argument(help="Folder of a run or a study.")]
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
    CVAT = "cvat"
    LABEL_STUDIO = "label_studio"


class CompareTest(StrEnum):
    """How paired differences are tested."""

    T = "t"
    PERMUTATION = "permutation"
    WILCOXON = "wilcoxon"


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
        warnings.formatwarning = lambda message, *_args, **_kwargs: f"alloop: warning: {message}\n"
        try:
            command(*args, **kwargs)
        except AlloopError as error:
            if debug:
                raise
            print(f"alloop: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            raise
        except OSError as error:
            if debug:
                raise
            what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
            kept = "Nothing that was booked is lost; mend the cause and run the same command again."
            print(f"alloop: {type(error).__name__}: {what}. {kept}", file=sys.stderr)
            raise typer.Exit(1) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            text = f"alloop: unexpected {type(error).__name__}: {error}. Nothing that was booked is lost."
            print(f"{text} Please report it with what --debug prints.", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print("alloop: stopped; the same command goes on from here.", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped
