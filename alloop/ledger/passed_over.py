"""The images that a rule of a purchase did not admit, `loop.min_distance` or `loop.per_group`.

A run without such rules has no such table.
"""

from collections.abc import Sequence

from alloop.budget.charges import PassedOver
from alloop.ledger.store import Ledger
from alloop.values import ImageId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS passed_over (
    round INTEGER NOT NULL, image_id INTEGER NOT NULL, rule TEXT NOT NULL, boxes REAL NOT NULL, bought INTEGER NOT NULL,
    PRIMARY KEY (round, image_id))
"""
_EXISTS = "SELECT name FROM sqlite_master WHERE name = 'passed_over'"


def record_passed_over(ledger: Ledger, round_: int, images: Sequence[PassedOver]) -> None:
    """Record the images that the purchase for a round passed over."""
    if not images:
        return
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        rows = [(round_, image.image_id, image.rule, image.boxes, image.bought) for image in images]
        ledger.database.write_all("INSERT INTO passed_over VALUES (?, ?, ?, ?, ?)", rows)


def recorded_passed_over(ledger: Ledger) -> list[PassedOver]:
    """Return every image that was passed over, by round; one that was passed over again comes again."""
    if not ledger.database.read(_EXISTS):
        return []
    rows = ledger.database.read("SELECT image_id, rule, boxes, bought FROM passed_over ORDER BY round, image_id")
    return [PassedOver(ImageId(r["image_id"]), r["rule"], r["boxes"], bool(r["bought"])) for r in rows]
