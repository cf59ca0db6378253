"""What a tracker is: a listener that is shown the figures of every booked round and gives nothing back.

A tracker is a dataclass whose fields are its parameters, with a method `open`. It is no part of the experiment: it may
be added, changed or removed between two starts of a run, and what it raises is reported and never stops the run.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from alloop.errors import ConfigError


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """The figures of one booked round.

    Attributes:
        round: its number.
        boxes: boxes paid for when it trained, since the run began: the x axis of every curve.
        images: images labeled when it trained.
        metrics: fractions of 1 by name, such as `ap` and `ap50`; None where unknown.
    """

    round: int
    boxes: int
    images: int
    metrics: Mapping[str, float | None]

    def known(self) -> dict[str, float]:
        """Return the metrics that are known."""
        return {name: value for name, value in self.metrics.items() if value is not None}


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """The run that a tracker is opened for.

    Attributes:
        folder: of the run; a tracker may write files of its own into it.
        strategy: the name of the query strategy.
        random_seed: the seed of all random choices.
        config: the experiment as plain values.
        finished: the rounds that are booked already, in order. A tracker shows them as well: an earlier process may
            have been killed after it booked a round and before the tracker had it.
    """

    folder: Path
    strategy: str
    random_seed: int
    config: Mapping[str, Any]
    finished: tuple[RoundFigures, ...] = ()

    @property
    def name(self) -> str:
        """The name of the run: that of its folder."""
        return self.folder.resolve().name


class RoundListener(Protocol):
    """An open tracker. `booked` is called once for each round that is booked from now on, then `close`."""

    def booked(self, figures: RoundFigures) -> None:
        """Show a round that was booked just now."""

    def close(self) -> None:
        """Finish: the run has ended, waits for people, or failed."""


@runtime_checkable
class TrackerPlugin(Protocol):
    """What a config names under `trackers`.

    A class attribute `packages`, a tuple of module names, may say what it imports; a run does not start without them.
    """

    def open(self, run: TrackedRun) -> RoundListener:
        """Connect, and show the finished rounds that are not shown yet. It is called when a run begins or goes on.

        Raises:
            ConfigError: a parameter that cannot work; the run does not start.
        """


def require_packages(name: str, plugin: object) -> None:
    """Import the packages that a tracker says it needs.

    Raises:
        ConfigError: one is not installed.
    """
    for package in getattr(plugin, "packages", ()):
        try:
            importlib.import_module(package)
        except ImportError as error:
            msg = (
                f"trackers: {name} needs the package {package}, which cannot be imported ({error}); install it, for "
                f"example with `pip install {package}`, or take {name} out of trackers"
            )
            raise ConfigError(msg) from error
