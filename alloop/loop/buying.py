"""The purchase of a round: rank images, price them, buy in ranking order until the quota is met or the budget ends.

One loop serves both kinds of oracle, with two prices. Where labels are revealed an image costs its true boxes. Where
people draw, nobody knows that number yet, and an image costs the boxes that are predicted for it.

A purchase may have rules (`PurchaseRule`), for example about near duplicates or about images of one group. An image
that a rule does not admit is passed over. When every unlabeled image was ranked and the quota is still open, the images
that were passed over are bought after all, in ranking order.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from alloop.budget.amounts import Spent, buy, first_count
from alloop.budget.charges import PassedOver
from alloop.config.blocks import LoopConfig
from alloop.loop.querying import QuerySession
from alloop.values import ImageId, Selection


class PurchaseRule(Protocol):
    """A rule about which images one purchase may hold. It remembers what the purchase has taken so far.

    Attributes:
        name: the rule in figures, for example `near_duplicate`.
    """

    name: str

    def admits(self, image_id: ImageId) -> bool:
        """Return whether an image may be taken beside what is labeled and what was taken before."""

    def take(self, image_id: ImageId) -> None:
        """Remember that an image was taken; it was admitted by every rule."""


Rules = Callable[[Sequence[ImageId]], Sequence[PurchaseRule]]
"""Makes the rules of one walk along a ranking of images; they have taken nothing yet."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """The images that a round takes, in the order in which they were taken, with the boxes each was priced at."""

    selection: Selection
    boxes: tuple[float, ...]
    passed_over: tuple[PassedOver, ...] = ()


def no_rules(_ranking: Sequence[ImageId]) -> Sequence[PurchaseRule]:
    """Return no rule: a purchase takes the images of a ranking as they come."""
    return ()


def purchase(
    session: QuerySession,
    loop: LoopConfig,
    spent: Spent,
    boxes_of: Callable[[Selection], Sequence[float]],
    rules: Rules = no_rules,
) -> Purchase | None:
    """Buy what the strategy ranks highest and every rule admits; return None when not one image fits the budget.

    The strategy first ranks as many images as the quota is likely to take, then twice as many until the quota is met,
    the budget is exhausted, or every unlabeled image is ranked.

    Args:
        session: the open query of the round.
        loop: the quota (`query_size`) and the budget.
        spent: what was paid before.
        boxes_of: the boxes that each ranked image costs; a predicted number is rounded.
        rules: makes the rules for each walk along a ranking; the diagnostics say what they did.
    """
    count = first_count(loop.query_size, float(session.mean_boxes), session.unlabeled)
    while True:
        selection = session.select(count)
        boxes = dict(zip(selection.image_ids, boxes_of(selection), strict=True))
        is_last = count == session.unlabeled
        walk = Walk(selection.image_ids, rules(selection.image_ids), take_passed_over=is_last)
        head = buy(((i, round(boxes[i])) for i in walk), loop.query_size, spent, loop.budget)
        if head.quota_met or head.budget_exhausted or is_last:
            break
        count = min(2 * count, session.unlabeled)
    if not head.image_ids:
        return None
    taken = set(head.image_ids)
    passed_over = tuple(PassedOver(i, rule, boxes[i], bought=i in taken) for i, rule in walk.passed_over.items())
    chosen = _cut(selection, head.image_ids, passed_over_figures(passed_over))
    return Purchase(chosen, tuple(boxes[i] for i in head.image_ids), passed_over)


class Walk:
    """A walk along a ranking that offers the images which every rule admits, then perhaps those it passed over.

    The walk may be made once. Asking for the next image means that the one before was bought.

    Attributes:
        passed_over: the images that were passed over before the last one that was bought, and the name of the rule.
    """

    def __init__(self, ranking: Iterable[ImageId], rules: Sequence[PurchaseRule], *, take_passed_over: bool) -> None:
        """Take images in ranking order; `take_passed_over` offers the images that were passed over at the end."""
        self.passed_over: dict[ImageId, str] = {}
        self._ranking, self._rules, self._take_passed_over = ranking, rules, take_passed_over

    def __iter__(self) -> Iterator[ImageId]:
        """Offer one image after the other."""
        refused: dict[ImageId, str] = {}
        for image_id in self._ranking:
            refusing = next((rule.name for rule in self._rules if not rule.admits(image_id)), None)
            if refusing is not None:
                refused[image_id] = refusing
                continue
            yield image_id
            self.passed_over |= refused  # the walk goes on, so the image was bought
            for rule in self._rules:
                rule.take(image_id)
        for image_id in refused if self._take_passed_over else ():
            yield image_id
            self.passed_over[image_id] = refused[image_id]


def passed_over_figures(passed_over: Sequence[PassedOver]) -> dict[str, float]:
    """Return, for each rule, the images and boxes that it saved, and the images that were bought in spite of it."""
    figures: dict[str, float] = {}
    for name in dict.fromkeys(image.rule for image in passed_over):
        own = [image for image in passed_over if image.rule == name]
        saved = [image.boxes for image in own if not image.bought]
        figures[f"{name}_images_passed_over"] = len(saved)
        figures[f"{name}_boxes_passed_over"] = float(sum(saved))
        figures[f"{name}_images_bought"] = len(own) - len(saved)
    return figures


def _cut(selection: Selection, image_ids: Sequence[ImageId], figures: Mapping[str, float]) -> Selection:
    """Return some images of a selection in another order, with their utilities, and with more diagnostics."""
    rows = {image_id: row for row, image_id in enumerate(selection.image_ids)}
    utilities = selection.utilities[[rows[image_id] for image_id in image_ids]]
    return Selection(tuple(image_ids), utilities, diagnostics=selection.diagnostics | dict(figures))
