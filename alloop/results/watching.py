"""What goes on in a run or a study, read from ledgers and logs that other processes may be writing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alloop.errors import DamagedFileError
from alloop.ledger.store import run_folders
from alloop.loop.time_left import study_time_left
from alloop.progress import duration
from alloop.results.run_log import RunLog, read_log
from alloop.results.status import RunStatus, read_status

_ROUNDS = re.compile(r"\((\d+) of (\d+) rounds done")


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """One run: its folder and its progress, or why that cannot be read just now."""

    folder: Path
    status: RunStatus | None
    trouble: str = ""

    @property
    def state(self) -> str:
        """The state in a few words."""
        return self.trouble if self.status is None else self.status.state

    @property
    def ended(self) -> bool:
        """Whether nothing happens until somebody acts: the run is finished, or waits for people or a program."""
        status = self.status
        if status is None:
            return False
        return status.state == "finished" or status.waiting_round is not None or status.asks_program is not None

    @property
    def goes_on(self) -> bool:
        """Whether a process reported not long ago that it works on this run."""
        return self.status is not None and self.status.open_round is not None and self.status.log.goes_on

    @property
    def done(self) -> int:
        """The number of finished rounds."""
        return len(self.status.rounds) if self.status else 0

    @property
    def planned(self) -> int:
        """How many rounds the run was planned to have, as far as it is known."""
        facts = self.status.facts if self.status else None
        return max(self.done, (facts and facts.rounds_planned) or 0)


@dataclass(frozen=True, slots=True)
class Watched:
    """A run, or a study with its runs and with what the study itself reported."""

    folder: Path
    runs: Sequence[WatchedRun]
    log: RunLog = field(default_factory=RunLog)

    @property
    def is_study(self) -> bool:
        """Whether this is the folder of a study."""
        return [run.folder for run in self.runs] != [self.folder]

    @property
    def latest(self) -> WatchedRun:
        """The run that reported last."""
        return min(self.runs, key=lambda run: run.status.log.age if run.status and run.status.log.lines else 1e12)

    @property
    def rounds(self) -> tuple[int, int]:
        """The finished rounds and all that are to be: a study reports how many, with those of runs not begun yet."""
        done = sum(run.done for run in self.runs)
        known = sum(run.planned for run in self.runs)
        counts = [found for line in self.log.lines if (found := _ROUNDS.search(line.text))] if self.is_study else []
        never = sum(run.planned - run.done for run in self.runs if run.ended)  # as when the budget is spent
        return done, max(known, int(counts[-1][2]) if counts else 0) - never

    @property
    def ended(self) -> bool:
        """Whether nothing more happens by itself."""
        done, planned = self.rounds
        waits = any(run.ended and run.state != "finished" for run in self.runs)
        return all(run.ended for run in self.runs) and (done >= planned or waits)

    @property
    def left(self) -> str:
        """How long it still takes, in words; empty where nothing says it."""
        if not self.is_study:
            left = self.runs[0].status and self.runs[0].status.left
            return str(left) if left else ""
        done, planned = self.rounds
        active = sum(run.goes_on for run in self.runs)
        seconds = [sum(record.timings.values()) for run in self.runs if run.status for record in run.status.rounds]
        estimate = study_time_left(seconds, planned - done, active) if active else None
        return f"about {duration(estimate)}" if estimate else ""

    @property
    def state(self) -> str:
        """The state in one sentence."""
        if not self.is_study:
            return self.runs[0].state
        done, planned = self.rounds
        return f"{len(self.runs)} runs begun, {done} of {planned} rounds done{': finished' if self.ended else ''}"


def read_watched(folder: Path) -> Watched:
    """Read what goes on.

    Raises:
        ConfigError: there is neither a run nor a study.
    """
    return Watched(folder, [_watched(path) for path in run_folders(folder)], read_log(folder))


def _watched(folder: Path) -> WatchedRun:
    try:
        return WatchedRun(folder, read_status(folder))
    except DamagedFileError as error:  # a run that is just being begun has an empty ledger
        return WatchedRun(folder, None, f"cannot be read: {error}")
