"""The losses along the training of each round, as runs kept them."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from alloop.errors import DamagedFileError
from alloop.ledger.store import Ledger, read_ledger
from alloop.loop.round_files import losses_path

if TYPE_CHECKING:
    from alloop.results.runs import Run  # `alloop status` needs none


@dataclass(frozen=True, slots=True)
class Losses:
    """Finished steps, the total loss, and the loss terms by name, which are None where a step has no such term."""

    round: int
    steps: Sequence[int]
    total: Sequence[float]
    terms: Mapping[str, Sequence[float | None]]


def read_losses(ledger: Ledger, round_: int) -> Losses | None:
    """Return what one round kept; None where it kept nothing, as in runs of older versions.

    Raises:
        DamagedFileError: the file differs from its record.
    """
    data = ledger.stored(losses_path(round_))
    if data is None:
        return None
    head, *rows = csv.reader(data.decode().splitlines())
    try:
        columns = {name: [float(row[k]) if row[k] else None for row in rows] for k, name in enumerate(head[3:], 3)}
        return Losses(round_, [int(row[0]) for row in rows], [float(row[2]) for row in rows], columns)
    except (ValueError, IndexError) as error:
        msg = f"{ledger.folder / losses_path(round_)}: cannot be read as losses ({error})"
        raise DamagedFileError(msg) from error


def kept_losses(run: "Run") -> list[Losses]:
    """Return the losses of all rounds of a run that kept them."""
    with read_ledger(run.folder) as ledger:
        found = [read_losses(ledger, record.round) for record in run.rounds]
    return [losses for losses in found if losses is not None]
