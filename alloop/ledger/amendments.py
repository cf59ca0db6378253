"""What was changed about a run after it began: how many rounds it has, and what may be spent.

An amendment is recorded with the number of rounds that were finished before it. The facts of the run are those of its
last amendment from then on; what the run began with stays where it was. A run without amendments has no such table.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from alloop.ledger.store import Ledger

_SCHEMA = """
CREATE TABLE IF NOT EXISTS amendment (
    number INTEGER PRIMARY KEY, finished_rounds INTEGER NOT NULL, changes TEXT NOT NULL, facts TEXT NOT NULL)
"""
_EXISTS = "SELECT name FROM sqlite_master WHERE name = 'amendment'"


@dataclass(frozen=True, slots=True)
class Amendment:
    """One amendment.

    Attributes:
        finished_rounds: how many rounds were finished before it.
        changes: for each key of the config, as text, what it was before and what it is since.
    """

    finished_rounds: int
    changes: Mapping[str, tuple[str, str]]

    def __str__(self) -> str:
        """Return it in words."""
        changed = ", ".join(f"{key} is {now} and was {before}" for key, (before, now) in self.changes.items())
        return f"after {self.finished_rounds} finished rounds: {changed}"


def record_amendment(ledger: Ledger, amendment: Amendment, facts: Mapping[str, str]) -> None:
    """Record an amendment, and the facts that hold from now on."""
    row = (amendment.finished_rounds, json.dumps(amendment.changes), json.dumps(dict(facts)))
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        ledger.database.write("INSERT INTO amendment (finished_rounds, changes, facts) VALUES (?, ?, ?)", *row)


def add_query(ledger: Ledger, round_: int, timings: Mapping[str, float], diagnostics: Mapping[str, float]) -> None:
    """Add the figures of a query that was asked after its round was closed."""
    row = ledger.database.read("SELECT timings FROM round WHERE round = ?", round_)[0]
    merged = json.dumps(json.loads(row["timings"]) | dict(timings), sort_keys=True)
    figures = json.dumps(dict(diagnostics), allow_nan=False, sort_keys=True)
    with ledger.transaction():
        ledger.database.write("UPDATE round SET timings = ?, notes = ? WHERE round = ?", merged, figures, round_)


def recorded_amendments(ledger: Ledger) -> list[Amendment]:
    """Return every amendment, in order."""
    if not ledger.database.read(_EXISTS):
        return []
    rows = ledger.database.read("SELECT finished_rounds, changes FROM amendment ORDER BY number")
    return [
        Amendment(row["finished_rounds"], {key: tuple(pair) for key, pair in json.loads(row["changes"]).items()})
        for row in rows
    ]
