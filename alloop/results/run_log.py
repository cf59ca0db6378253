"""What a run reported last, read from its `log.txt` while another process writes it."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from alloop.loop.time_left import Doing, whole_training
from alloop.progress import LOG

TAIL = 1 << 17  # bytes at the end of a log that are read
PAUSE = 120.0  # seconds without a line, after which a run may have been stopped; it reports every 10
_TASK = re.compile(r"round (\d+): (training|retraining|evaluation|query)\b.*: (\d+)/(\d+)(?: loss (\S+))?")
_LEFT = re.compile(r" \((about|at least) [^()]* left in this run\)$")
_STEPS = {"training": "train", "retraining": "train", "evaluation": "evaluate", "query": "query"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a log: when it was written, its text, and what it says about a task, if it does."""

    time: datetime
    text: str

    @property
    def what(self) -> str:
        """The text without the time left, which was true when it was written."""
        return _LEFT.sub("", self.text)

    @property
    def task(self) -> tuple[int, str, float] | None:
        """The round, the kind of task and the finished share of it."""
        found = _TASK.match(self.text)
        return None if found is None else (int(found[1]), found[2], int(found[3]) / max(1, int(found[4])))

    @property
    def loss(self) -> tuple[int, float] | None:
        """The finished steps of a training and its loss."""
        found = _TASK.match(self.text)
        return None if found is None or found[2] != "training" or not found[5] else (int(found[3]), float(found[5]))


@dataclass(frozen=True, slots=True)
class RunLog:
    """The last lines of a log, and how many seconds ago the last of them was written."""

    lines: Sequence[Line] = ()
    age: float = 0.0

    @property
    def goes_on(self) -> bool:
        """Whether something was reported not long ago."""
        return bool(self.lines) and self.age <= PAUSE

    def doing(self, round_: int) -> Doing | None:
        """Return what a round is doing; None where the last line about a task is not about this round."""
        last = next((line.task for line in reversed(self.lines) if line.task), None)
        if last is None or last[0] != round_:
            return None
        _, kind, share = last
        trained = self._together(round_, "training")
        shares = [line.task[2] for line in trained if line.task]
        training = whole_training(_seconds(trained), shares[0], shares[-1]) if shares else None
        seconds = _seconds(self._together(round_, kind)) + self.age
        return Doing(_STEPS[kind], share if kind == "training" else 1.0, seconds, training)

    def losses(self, round_: int) -> list[tuple[int, float]]:
        """Return the finished steps and the loss of each line about the training of a round."""
        return [line.loss for line in self._together(round_, "training") if line.loss]

    def _together(self, round_: int, kind: str) -> list[Line]:
        """Return the lines about one task since it began or was resumed."""
        lines = [line for line in self.lines if line.task and line.task[:2] == (round_, kind)]
        breaks = [k for k, (before, after) in enumerate(pairwise(lines), start=1) if _was_stopped(kind, before, after)]
        return lines[breaks[-1] if breaks else 0 :]


def _was_stopped(kind: str, before: Line, after: Line) -> bool:
    back = kind == "training" and before.task is not None and after.task is not None and after.task[2] <= before.task[2]
    return back or _seconds((before, after)) > PAUSE


def _seconds(lines: Sequence[Line]) -> float:
    return (lines[-1].time - lines[0].time).total_seconds() if lines else 0.0


def read_log(folder: Path, now: datetime | None = None) -> RunLog:
    """Return the last lines of the log of a run or a study; none where it has no log."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return RunLog()
    lines = [line for part in text.splitlines() if (line := _line(part))]
    if not lines:
        return RunLog()
    age = ((now or datetime.now().astimezone()) - lines[-1].time).total_seconds()
    return RunLog(lines, max(0.0, age))


def _line(text: str) -> Line | None:
    """Return a whole line; None for one whose beginning was not read."""
    stamp, _, rest = text.partition("  ")
    try:
        time = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return Line(time, rest) if time.tzinfo else None
