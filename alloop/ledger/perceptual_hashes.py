"""The perceptual hashes of the pool as they were when a run began.

A run folder of an older version has no such table. An image that could not be decoded has no hash.
"""

from collections.abc import Mapping

from alloop.ledger.store import Ledger
from alloop.values import ImageId

_SCHEMA = "CREATE TABLE IF NOT EXISTS perceptual_hash (image_id INTEGER PRIMARY KEY, hash TEXT NOT NULL)"
_EXISTS = "SELECT name FROM sqlite_master WHERE name = 'perceptual_hash'"


def record_perceptual_hashes(ledger: Ledger, hashes: Mapping[ImageId, int]) -> None:
    """Record 64-bit hashes, as 16 hexadecimal digits: SQLite has no unsigned integers."""
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        rows = [(image_id, f"{value:016x}") for image_id, value in hashes.items()]
        ledger.database.write_all("INSERT INTO perceptual_hash VALUES (?, ?)", rows)


def recorded_perceptual_hashes(ledger: Ledger) -> dict[ImageId, int]:
    """Return the hash of each image of the pool that has one."""
    if not ledger.database.read(_EXISTS):
        return {}
    rows = ledger.database.read("SELECT image_id, hash FROM perceptual_hash ORDER BY image_id")
    return {ImageId(row["image_id"]): int(row["hash"], 16) for row in rows}
