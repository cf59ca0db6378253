"""What every command has: the option `--debug`, and errors of one paragraph with their exit code."""

import inspect
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from alloop.errors import AlloopError

STOPPED = 130  # exit code after Ctrl-C
_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
_KEPT = "Nothing that the ledger recorded is lost"


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Make a function a command: add `--debug`, and print errors as one paragraph unless it is given."""

    @wraps(function)
    def wrapped(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        warnings.formatwarning = lambda message, *_args, **_kwargs: f"alloop: warning: {message}\n"
        try:
            function(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            print("alloop: stopped; the same command continues from here.", file=sys.stderr)
            raise typer.Exit(STOPPED) from None
        except Exception as error:
            if debug:
                raise
            print(f"alloop: {_paragraph(error)}", file=sys.stderr)
            raise typer.Exit(error.exit_code if isinstance(error, AlloopError) else 1) from None

    signature = inspect.signature(function)
    option = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_Debug)
    wrapped.__signature__ = signature.replace(parameters=[*signature.parameters.values(), option])  # type: ignore[attr-defined]
    return wrapped


def _paragraph(error: Exception) -> str:
    if isinstance(error, AlloopError):
        return str(error)
    if isinstance(error, OSError):
        reason = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return f"{type(error).__name__}: {reason}. {_KEPT}; remove the cause and run the same command again."
    if isinstance(error, UnicodeEncodeError):
        part = error.object[max(0, error.start - 40) : error.end + 40]
        return f"{part!r}: a name holds bytes that are no text in {error.encoding}; rename the file or folder. {_KEPT}."
    if isinstance(error, ValueError) and str(error).startswith("embedded null"):
        return f"a path holds a NUL, which no file name has; look at the config and at the file names. {_KEPT}."
    text = f"unexpected {type(error).__name__}: {error}. {_KEPT}."
    return f"{text} Please report it together with what --debug prints."
