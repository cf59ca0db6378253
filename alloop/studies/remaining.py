"""How long the rest of a study will take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alloop.errors import DamagedFileError
from alloop.ledger.store import read_ledger
from alloop.progress import duration


@dataclass
class RemainingTime:
    """An estimate from the rounds that were finished since the study was started.

    Attributes:
        planned: folders of the runs, with the rounds that each will have.
        started: when the study was started or resumed, in seconds of the monotonic clock.
        before: rounds that were finished at the first estimate; -1 until then.
    """

    planned: Mapping[Path, int]
    started: float = field(default_factory=time.monotonic)
    before: int = -1

    def text(self) -> str:
        """Return the finished and the planned rounds, and the time left once a round was finished."""
        done = sum(_finished_rounds(folder, rounds) for folder, rounds in self.planned.items())
        total = sum(self.planned.values())
        if self.before < 0:
            self.before = done
        text = f" ({done} of {total} rounds done"
        if done in (self.before, total):
            return f"{text})"
        each = (time.monotonic() - self.started) / (done - self.before)
        return f"{text}, about {duration(each * (total - done))} left)"


def _finished_rounds(folder: Path, planned: int) -> int:
    """Return the finished rounds of a run; all that were planned when it ended early."""
    if not (folder / "run.db").is_file():
        return 0
    try:
        with read_ledger(folder) as ledger:
            ended = ledger.open_round() is None and ledger.facts() is not None
            return planned if ended else len(ledger.rounds())
    except DamagedFileError:  # not written yet; where it is damaged, the run itself reports it
        return 0
