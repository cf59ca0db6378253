"""Amounts of annotation: a number of images or of boxes, and how far a ranking may be bought."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from alloop.errors import ConfigError
from alloop.values import ImageId

Unit = Literal["images", "boxes"]


@dataclass(frozen=True, slots=True)
class Amount:
    """A whole number of images or boxes."""

    number: int
    unit: Unit

    @classmethod
    def parse(cls, value: object, key: str) -> "Amount":
        """Read `80`, `"80 images"` or `"500 boxes"`; raise ConfigError naming `key` otherwise."""
        if isinstance(value, Amount):
            return value
        match = re.fullmatch(r"\s*(\d+)\s*(images?|box(?:es)?)?\s*", str(value))
        if isinstance(value, bool) or not match or int(match[1]) == 0:
            msg = f"{key}: expected a positive number such as 80, '80 images' or '500 boxes', found {value!r}"
            raise ConfigError(msg)
        return cls(int(match[1]), "boxes" if (match[2] or "").startswith("b") else "images")

    def __str__(self) -> str:
        """As it is written in a config."""
        return f"{self.number} {self.unit}"


@dataclass(frozen=True, slots=True)
class Spent:
    """What has been paid so far."""

    images: int = 0
    boxes: int = 0

    def of(self, unit: Unit) -> int:
        """The spent number in one unit."""
        return self.images if unit == "images" else self.boxes

    def plus(self, boxes: int) -> "Spent":
        """After one more image with that many boxes."""
        return Spent(self.images + 1, self.boxes + boxes)


@dataclass(frozen=True, slots=True)
class Purchase:
    """The head of a ranking that is bought, and why it ends there."""

    image_ids: tuple[ImageId, ...]
    quota_met: bool
    budget_exhausted: bool


def buy(ranking: Iterable[tuple[ImageId, int]], quota: Amount, spent: Spent, budget: Amount | None) -> Purchase:
    """Take images in ranking order until the quota is met; never let the total pass the budget.

    The quota counts what this round buys and may be overshot by the boxes of its last image, since
    boxes are only known once drawn. The budget counts everything ever paid and is never passed: the
    first image that does not fit ends the purchase.

    Args:
        ranking: image ids with the boxes each one costs, best first.
        quota: what this round asks for.
        spent: what was paid before.
        budget: the permission for the whole run, or None.
    """
    bought: list[ImageId] = []
    this_round, total = Spent(), spent
    for image_id, boxes in ranking:
        if this_round.of(quota.unit) >= quota.number:
            return Purchase(tuple(bought), quota_met=True, budget_exhausted=False)
        if budget is not None and total.plus(boxes).of(budget.unit) > budget.number:
            return Purchase(tuple(bought), quota_met=False, budget_exhausted=True)
        bought.append(image_id)
        this_round, total = this_round.plus(boxes), total.plus(boxes)
    return Purchase(tuple(bought), this_round.of(quota.unit) >= quota.number, budget_exhausted=False)


def first_count(query_size: Amount, mean_boxes: float, unlabeled: int) -> int:
    """Return how many images to rank at first.

    A quota in images is ranked as it is. A quota in boxes is divided by the mean boxes per image so far, with half as
    many images again and 8 more, so that one ranking usually suffices.
    """
    if query_size.unit == "images":
        return min(query_size.number, unlabeled)
    return min(unlabeled, max(1, round(1.5 * query_size.number / max(mean_boxes, 0.1)) + 8))
