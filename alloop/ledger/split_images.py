"""The hashes of the reference and test images as they were when a run began; the pool has a table of its own.

A run folder of an older version has no such table, and nothing is known about those images.
"""

from collections.abc import Sequence

from alloop.ledger.store import Ledger
from alloop.values import ImageId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS split_image (
    split TEXT NOT NULL, image_id INTEGER NOT NULL, file_name TEXT NOT NULL, sha256 TEXT NOT NULL,
    PRIMARY KEY (split, image_id))
"""
HashedImage = tuple[ImageId, str, str]  # id, file name, sha256


def record_images(ledger: Ledger, split: str, images: Sequence[HashedImage]) -> None:
    """Record the images of the split `reference` or `test`."""
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        ledger.database.write_all("INSERT INTO split_image VALUES (?, ?, ?, ?)", [(split, *image) for image in images])


def record_pool_images(ledger: Ledger, images: Sequence[HashedImage]) -> None:
    """Record images that the pool gained."""
    with ledger.transaction():
        ledger.database.write_all("INSERT INTO image VALUES (?, ?, ?)", images)


def pool_images(ledger: Ledger, image_ids: Sequence[ImageId]) -> dict[ImageId, HashedImage]:
    """Return what is recorded of some images of the pool."""
    sql = "SELECT image_id, file_name, sha256 FROM image WHERE image_id = ?"
    rows = [row for image_id in image_ids for row in ledger.database.read(sql, int(image_id))]
    return {ImageId(row["image_id"]): (ImageId(row["image_id"]), row["file_name"], row["sha256"]) for row in rows}


def recorded_images(ledger: Ledger) -> dict[str, list[HashedImage]]:
    """Return the recorded images of each split: `train`, which is the pool, `reference` and `test`.

    Where one split serves as reference and as test, it is recorded as `test` alone.
    """
    rows = ledger.database.read("SELECT 'train' AS split, image_id, file_name, sha256 FROM image ORDER BY image_id")
    if ledger.database.read("SELECT name FROM sqlite_master WHERE name = 'split_image'"):
        rows += ledger.database.read("SELECT * FROM split_image ORDER BY split, image_id")
    splits: dict[str, list[HashedImage]] = {}
    for row in rows:
        splits.setdefault(row["split"], []).append((ImageId(row["image_id"]), row["file_name"], row["sha256"]))
    return splits


def count_test_images(ledger: Ledger) -> int | None:
    """Return the number of recorded test images; None where an older version did not record them."""
    if not ledger.database.read("SELECT name FROM sqlite_master WHERE name = 'split_image'"):
        return None
    (row,) = ledger.database.read("SELECT count(*) AS images FROM split_image WHERE split = 'test'")
    return row["images"] or None
