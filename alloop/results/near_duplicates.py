"""Near duplicates that a run paid for, and those that `loop.min_distance` saved.

An image is a near duplicate if its perceptual hash is near that of an image that was labeled before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alloop.budget.charges import Charge, PassedOver
from alloop.data.hamming import near_pairs
from alloop.data.leaks import NEAR
from alloop.ledger.passed_over import recorded_passed_over
from alloop.ledger.perceptual_hashes import recorded_perceptual_hashes
from alloop.ledger.store import read_ledger
from alloop.values import ImageId

RULE = "near_duplicate"


@dataclass(frozen=True, slots=True)
class NearDuplicates:
    """Near duplicates of one run, each image counted once.

    Attributes:
        paid_images: near duplicates among the images that were paid for.
        paid_boxes: their boxes.
        saved_images: images that `loop.min_distance` passed over and that were never bought.
        saved_boxes: the boxes that they were priced at, predicted ones where people draw.
    """

    paid_images: int
    paid_boxes: int
    saved_images: int
    saved_boxes: float


def near_duplicates(folder: Path, bits: int = NEAR) -> NearDuplicates | None:
    """Return the near duplicates of a run; None where no perceptual hash is recorded, as in older versions."""
    with read_ledger(folder) as ledger:
        hashes, charges = recorded_perceptual_hashes(ledger), ledger.charges()
        passed_over = recorded_passed_over(ledger)
    return counted(hashes, charges, passed_over, bits) if hashes else None


def counted(
    hashes: Mapping[ImageId, int], charges: Sequence[Charge], passed_over: Sequence[PassedOver], bits: int
) -> NearDuplicates:
    """Count near duplicates.

    Args:
        hashes: the perceptual hash of each image that has one.
        charges: the charges in the order in which they were booked.
        passed_over: the images that rules passed over.
        bits: the greatest number of bits in which near duplicates differ.
    """
    paid = [charge for charge in charges if charge.image_id in hashes]
    values = np.array([hashes[charge.image_id] for charge in paid], dtype=np.uint64)
    boxes = np.array([charge.boxes for charge in paid], dtype=np.int64)
    repeated = _has_earlier_neighbour(values, bits)
    bought = {charge.image_id for charge in charges}
    saved = {image.image_id: image.boxes for image in passed_over if image.rule == RULE}
    never = [boxes_ for image_id, boxes_ in saved.items() if image_id not in bought]
    return NearDuplicates(int(repeated.sum()), int(boxes[repeated].sum()), len(never), float(sum(never)))


def _has_earlier_neighbour(hashes: np.ndarray, bits: int) -> np.ndarray:
    """Return which hashes differ in at most `bits` bits from one before them."""
    _, first = np.unique(hashes, return_index=True)
    first = np.sort(first)  # the first row of each distinct hash; near_pairs would list each pair of equal hashes
    repeated = np.ones(len(hashes), dtype=bool)
    repeated[first] = False
    _, later, _ = near_pairs(hashes[first], bits)
    repeated[first[later]] = True
    return repeated
