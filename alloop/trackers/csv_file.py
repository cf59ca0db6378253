"""A CSV file in the folder of the run, with one row for each booked round."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from alloop.files import atomic_write
from alloop.tables import csv_text
from alloop.trackers.tracker import RoundFigures, TrackedRun


@dataclass(frozen=True)
class Csv:
    """A CSV file with the columns round, boxes, images and one for each metric."""

    file: Annotated[str, Field(description="name of the file in the folder of the run")] = "rounds.csv"

    def __post_init__(self) -> None:
        """Raise ValueError for a file elsewhere: the runs of a study would write over each other's."""
        if not self.file or Path(self.file).name != self.file:
            msg = "give the name of a file without a folder; it is written into the folder of the run"
            raise ValueError(msg)

    def open(self, run: TrackedRun) -> "CsvFile":
        """Return the file, with the finished rounds in it."""
        return CsvFile(run.folder / self.file, run.finished)


class CsvFile:
    """The whole file is written anew for each round, so a process that is killed leaves no half or second row."""

    def __init__(self, path: Path, finished: Sequence[RoundFigures]) -> None:
        """Write the finished rounds where the file holds anything else."""
        self._path, self._rounds = path, list(finished)
        text = self._text()
        if self._rounds and not (path.is_file() and path.read_bytes() == text):
            atomic_write(path, text)

    def booked(self, figures: RoundFigures) -> None:
        """Write all rounds."""
        self._rounds.append(figures)
        atomic_write(self._path, self._text())

    def close(self) -> None:
        """Do nothing: every round is written already."""

    def _text(self) -> bytes:
        names = dict.fromkeys(name for figures in self._rounds for name in figures.metrics)
        rows = [
            [figures.round, figures.boxes, figures.images, *("" if v is None else v for v in _values(figures, names))]
            for figures in self._rounds
        ]
        return csv_text(["round", "boxes", "images", *names], rows).encode()


def _values(figures: RoundFigures, names: Sequence[str] | dict[str, None]) -> list[float | None]:
    return [figures.metrics.get(name) for name in names]
