"""How long the rest of a study will take."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from alloop.errors import DamagedFileError
from alloop.ledger.store import RoundRecord, read_ledger
from alloop.loop.time_left import study_time_left
from alloop.progress import duration


@dataclass(frozen=True, slots=True)
class RemainingTime:
    """An estimate from the rounds that are finished.

    Attributes:
        planned: folders of the runs, with the rounds that each will have.
        workers: how many runs go on at the same time.
    """

    planned: Mapping[Path, int]
    workers: int = 1

    def text(self) -> str:
        """Return the finished and the planned rounds, and the time left once a round is finished."""
        runs = [(_finished(folder), rounds) for folder, rounds in self.planned.items()]
        total = sum(self.planned.values())
        done = sum(rounds if ended else len(records) for (records, ended), rounds in runs)
        seconds = [sum(record.timings.values()) for (records, _), _ in runs for record in records]
        left = study_time_left(seconds, total - done, self.workers)
        return f" ({done} of {total} rounds done{f', about {duration(left)} left' if left else ''})"


def _finished(folder: Path) -> tuple[list[RoundRecord], bool]:
    """Return the finished rounds of a run, and whether it has ended, which may be before its last planned round."""
    if not (folder / "run.db").is_file():
        return [], False
    try:
        with read_ledger(folder) as ledger:
            return ledger.rounds(), ledger.open_round() is None and ledger.facts() is not None
    except DamagedFileError:  # not written yet; where it is damaged, the run itself reports it
        return [], False
