"""Labels that people corrected after they were booked, and that were taken in: trained on from a round on, and charged.

The first version stays where it was charged; a correction is another row, and a run without corrections has no such
table. An image is charged for the most boxes that it ever held: a correction costs boxes only where it has more than
every version before it. The work costs what the rates say for moved, deleted and added boxes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloop.budget.prices import PriceList
from alloop.class_values import Truth
from alloop.data.annotation_json import annotation_sha256, annotations_from_json, annotations_to_json
from alloop.ledger.store import Ledger
from alloop.oracles.oracle import PreAnnotations, edits
from alloop.values import Annotations, ImageId

_SCHEMA = """
CREATE TABLE IF NOT EXISTS correction (
    image_id INTEGER NOT NULL REFERENCES charge, round INTEGER NOT NULL,
    boxes INTEGER NOT NULL CHECK (boxes >= 0), seconds REAL NOT NULL CHECK (seconds >= 0),
    cost REAL NOT NULL CHECK (cost >= 0), annotation TEXT NOT NULL, annotation_sha256 TEXT NOT NULL,
    PRIMARY KEY (image_id, round))
"""


@dataclass(frozen=True, slots=True)
class Correction:
    """What taking in a corrected image costs."""

    image_id: ImageId
    boxes: int
    seconds: float
    cost: float


def correct(
    ledger: Ledger,
    round_: int,
    corrected: Mapping[ImageId, Truth],
    prices: PriceList,
    seconds: Mapping[ImageId, float],
) -> list[Correction]:
    """Take in corrected labels; from `round_` on they are trained on.

    Args:
        ledger: the ledger.
        round_: the round that is not opened yet. A correction for it that is there already is replaced.
        corrected: labels of images that were booked in earlier rounds; those that are no change are left out.
        prices: what the work costs.
        seconds: reported seconds of work on each image that were not charged before.
    """
    taken = []
    with ledger.transaction():
        ledger.database.write(_SCHEMA)
        ledger.database.show_paid()
        for image_id, annotations in corrected.items():
            versions = _versions(ledger, image_id)
            if annotation_sha256(versions[-1][1]) == annotation_sha256(annotations):
                continue
            earlier = [version for version_round, version in versions if version_round < round_]
            taken.append(_correction(image_id, annotations, earlier, prices, seconds.get(image_id, 0.0)))
            row = (taken[-1].boxes, taken[-1].seconds, taken[-1].cost)
            stored = (annotations_to_json(annotations), annotation_sha256(annotations))
            sql = "INSERT OR REPLACE INTO correction VALUES (?, ?, ?, ?, ?, ?, ?)"
            ledger.database.write(sql, int(image_id), round_, *row, *stored)
    return taken


def corrections_by_round(ledger: Ledger) -> list[tuple[int, int, int, float]]:
    """Return (round, images, boxes, cost) of the corrections that hold from each round on."""
    sql = "SELECT round, COUNT(*), SUM(boxes), SUM(cost) FROM paid WHERE is_correction GROUP BY round ORDER BY round"
    return [tuple(row) for row in ledger.database.read(sql)]


def _versions(ledger: Ledger, image_id: ImageId) -> list[tuple[int, Truth]]:
    """Return the rounds from which each version of the labels of an image holds, and the versions, in order."""
    rows = ledger.database.read("SELECT round, annotation FROM paid WHERE image_id = ? ORDER BY round", int(image_id))
    return [(row["round"], annotations_from_json(row["annotation"])) for row in rows]


def _correction(
    image_id: ImageId, now: Truth, earlier: Sequence[Truth], prices: PriceList, seconds: float
) -> Correction:
    before = earlier[-1]
    assert isinstance(before, Annotations)  # corrections come from people, who draw boxes
    assert isinstance(now, Annotations)
    changes = edits(PreAnnotations(before.boxes, before.labels, np.zeros(len(before), np.float32)), now)
    boxes = max(0, len(now) - max(len(version) for version in earlier))
    return Correction(image_id, boxes, seconds, prices.correction(changes, seconds))
