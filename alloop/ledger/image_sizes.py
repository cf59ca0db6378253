"""The sizes of the pool's images as they were when a run began.

A run folder of an older version has no such table; then the images or their annotations tell the sizes.
"""

from collections.abc import Iterable

from alloop.ledger.store import Ledger
from alloop.values import ImageId, ImageRecord

Size = tuple[int, int]  # (width, height) in pixels as displayed

_SCHEMA = "CREATE TABLE IF NOT EXISTS image_size (image_id INTEGER PRIMARY KEY, width INTEGER, height INTEGER)"
_EXISTS = "SELECT name FROM sqlite_master WHERE name = 'image_size'"


def record_image_sizes(ledger: Ledger, images: Iterable[ImageRecord]) -> None:
    """Record the size of each image of the pool."""
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        rows = [(image.image_id, image.width, image.height) for image in images]
        ledger.database.write_all("INSERT INTO image_size VALUES (?, ?, ?)", rows)


def recorded_image_sizes(ledger: Ledger) -> dict[ImageId, Size]:
    """Return the size of each image of the pool; empty for a run of an older version."""
    if not ledger.database.read(_EXISTS):
        return {}
    rows = ledger.database.read("SELECT image_id, width, height FROM image_size")
    return {ImageId(row["image_id"]): (row["width"], row["height"]) for row in rows}
