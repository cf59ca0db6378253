"""The trackers of a run: opened, shown every booked round, closed; what they raise is reported once and counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from alloop.config import ExperimentConfig
from alloop.errors import ConfigError
from alloop.ledger.store import Ledger, RoundRecord
from alloop.progress import Progress
from alloop.trackers.tracker import RoundFigures, RoundListener, TrackedRun, TrackerPlugin, require_packages


def tracker_plugins(config: ExperimentConfig) -> Mapping[str, TrackerPlugin]:
    """Return the trackers that a config names, each by its name and its number where a name stands twice.

    Raises:
        ConfigError: a class that is no tracker, or a package that is not installed.
    """
    plugins: dict[str, TrackerPlugin] = {}
    for number, block in enumerate(config.trackers):
        plugin = block.make()
        require_packages(block.name, plugin)
        plugins[f"{block.name} ({number + 1})" if block.name in plugins else block.name] = plugin
    return plugins


class Trackers:
    """The open trackers of a run. Nothing that they do comes back."""

    def __init__(self, progress: Progress) -> None:
        """Begin with none."""
        self.failures = Counter[str]()
        self._listeners: dict[str, RoundListener] = {}
        self._progress = progress

    def open(self, plugins: Mapping[str, TrackerPlugin], run: TrackedRun) -> None:
        """Open each tracker; one that cannot be opened is left out.

        Raises:
            ConfigError: a tracker refuses its parameters.
        """
        for name, plugin in plugins.items():
            with self._guarded(name, "could not be opened"):
                self._listeners[name] = plugin.open(run)

    def booked(self, record: RoundRecord) -> None:
        """Show a round that was booked just now."""
        figures = figures_of([record])[0]
        for name, listener in self._listeners.items():
            with self._guarded(name, f"failed after round {record.round}"):
                listener.booked(figures)

    def close(self) -> None:
        """Close all, and say how often each failed."""
        for name, listener in self._listeners.items():
            with self._guarded(name, "could not be closed"):
                listener.close()
        for name, count in self.failures.items():
            if count > 1:
                self._progress.say(f"warning: tracker {name} failed {count} times; the run's own record is complete")

    @contextmanager
    def _guarded(self, name: str, what: str) -> Iterator[None]:
        """Count what a tracker raises, and say the first of it; a wrong config is raised before the first round."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if isinstance(error, ConfigError) and name not in self._listeners:
                raise
            self.failures[name] += 1
            if self.failures[name] == 1:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self._progress.say(f"warning: tracker {name} {what} ({reason}); the run goes on without it")


@contextmanager
def tracked(
    plugins: Mapping[str, TrackerPlugin], config: ExperimentConfig, ledger: Ledger, progress: Progress
) -> Iterator[Trackers]:
    """Open trackers for a run, with the rounds that are booked already, and close them at the end.

    Raises:
        ConfigError: a tracker refuses its parameters.
    """
    trackers = Trackers(progress)
    try:
        trackers.open(plugins, _tracked_run(config, ledger))
        yield trackers
    finally:
        trackers.close()


def figures_of(records: Sequence[RoundRecord]) -> tuple[RoundFigures, ...]:
    """Return what trackers are shown of finished rounds."""
    return tuple(RoundFigures(r.round, r.boxes, r.images, MappingProxyType(dict(r.metrics))) for r in records)


def _tracked_run(config: ExperimentConfig, ledger: Ledger) -> TrackedRun:
    tree: dict[str, Any] = config.model_dump(mode="json", exclude={"trackers"})
    return TrackedRun(ledger.folder, config.strategy.name, config.random_seed, tree, figures_of(ledger.rounds()))
