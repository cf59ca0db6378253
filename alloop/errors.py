"""Every error that alloop raises on purpose, and the exit code that each one means.

    AlloopError            1   the work could not be done
    ├── ConfigError        2   wrong usage: a key, a value, a combination
    ├── DataError          1   an annotation file or an image cannot be used
    ├── StrategyError      1   a strategy broke its contract
    ├── TrainingError      1   a loss that is not finite, and the like
    ├── UnreachableError   1   a server does not answer
    ├── WaitingError       3   people or a program have not answered yet
    ├── RunInUseError     75   another process holds the run
    └── DamagedFileError  76   a stored file differs from its record

A message is one paragraph: what was expected, what was found, where, what to do.
"""

import difflib
from collections.abc import Iterable
from typing import ClassVar


class AlloopError(Exception):
    """An error that alloop raises on purpose; `exit_code` is what the command ends with."""

    exit_code: ClassVar[int] = 1


class ConfigError(AlloopError):
    """A config, an option or a combination of them that cannot work."""

    exit_code: ClassVar[int] = 2


class DataError(AlloopError):
    """An annotation file or an image that cannot be used."""


class StrategyError(AlloopError):
    """A strategy returned something that its contract forbids."""


class TrainingError(AlloopError):
    """Training cannot go on, for example because a loss is not finite."""


class UnreachableError(AlloopError):
    """A server that does not answer now and may later."""


class WaitingError(AlloopError):
    """A round cannot go on before people, or a program outside, have answered; nothing is wrong."""

    exit_code: ClassVar[int] = 3


class RunInUseError(AlloopError):
    """Another process holds the lock of this run."""

    exit_code: ClassVar[int] = 75


class DamagedFileError(AlloopError):
    """A stored file or record differs from what the ledger recorded."""

    exit_code: ClassVar[int] = 76


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest known name, or the list of known names."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"
