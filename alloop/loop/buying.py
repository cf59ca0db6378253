"""The purchase of a round: rank images, price them, buy in ranking order until the quota is met or the budget ends.

One loop serves both kinds of oracle, with two prices. Where labels are revealed an image costs its true boxes. Where
people draw, nobody knows that number yet, and an image costs the boxes that are predicted for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alloop.budget.amounts import Amount, Spent, buy
from alloop.config.blocks import LoopConfig
from alloop.loop.querying import QuerySession
from alloop.values import Selection


@dataclass(frozen=True, slots=True)
class Purchase:
    """The images that a round takes, in ranking order, with the boxes that each was priced at."""

    selection: Selection
    boxes: tuple[float, ...]


def purchase(
    session: QuerySession, loop: LoopConfig, spent: Spent, boxes_of: Callable[[Selection], Sequence[float]]
) -> Purchase | None:
    """Buy what the strategy ranks highest; return None when not even the first image fits the budget.

    The strategy first ranks as many images as the quota is likely to take, then twice as many until the quota is met,
    the budget is exhausted, or every unlabeled image is ranked.

    Args:
        session: the open query of the round.
        loop: the quota (`query_size`) and the budget.
        spent: what was paid before.
        boxes_of: the boxes that each ranked image costs; a predicted number is rounded.
    """
    count = first_count(loop.query_size, session.mean_boxes, session.unlabeled)
    while True:
        selection = session.select(count)
        boxes = boxes_of(selection)
        ranking = ((i, round(price)) for i, price in zip(selection.image_ids, boxes, strict=True))
        head = buy(ranking, loop.query_size, spent, loop.budget)
        if head.quota_met or head.budget_exhausted or count == session.unlabeled:
            break
        count = min(2 * count, session.unlabeled)
    taken = len(head.image_ids)
    if not taken:
        return None
    cut = Selection(head.image_ids, selection.utilities[:taken], diagnostics=selection.diagnostics)
    return Purchase(cut, tuple(boxes[:taken]))


def first_count(query_size: Amount, mean_boxes: float, unlabeled: int) -> int:
    """Return how many images to rank at first.

    A quota in images is ranked as it is. A quota in boxes is divided by the mean boxes per image so far, with half as
    many images again and 8 more, so that one ranking usually suffices.
    """
    if query_size.unit == "images":
        return min(query_size.number, unlabeled)
    return min(unlabeled, max(1, round(1.5 * query_size.number / max(mean_boxes, 0.1)) + 8))
