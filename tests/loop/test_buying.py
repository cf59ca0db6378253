"""The purchase loop, checked against the obvious way: price the whole ranking and walk it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.amounts import Amount, Spent
from alloop.loop.buying import first_count, purchase
from alloop.values import Selection

UNITS = ("images", "boxes")


class Session:
    """A query over images 1, 2, ... that the strategy ranks in this order, whatever their number."""

    def __init__(self, prices, mean):
        self.prices, self.mean_boxes, self.unlabeled, self.asked = prices, mean, len(prices), []

    def select(self, count):
        self.asked.append(count)
        utilities = -np.arange(count, dtype=float)
        return Selection(tuple(range(1, count + 1)), utilities, diagnostics={"asked": float(count)})

    def boxes_of(self, selection):
        return [self.prices[image_id - 1] for image_id in selection.image_ids]


def walked(prices, quota, spent, budget):
    """Images bought one after the other, as a person would do it on paper."""
    bought, images, boxes = [], 0, 0
    for number, price in enumerate(map(round, prices), start=1):
        if {"images": images, "boxes": boxes}[quota.unit] >= quota.number:
            break
        total = {"images": spent.images + images + 1, "boxes": spent.boxes + boxes + price}
        if budget is not None and total[budget.unit] > budget.number:
            break
        bought.append(number)
        images, boxes = images + 1, boxes + price
    return bought


amounts = st.builds(Amount, st.integers(1, 60), st.sampled_from(UNITS))


@given(
    prices=st.lists(st.floats(0, 9), min_size=1, max_size=60),
    quota=amounts,
    budget=st.none() | amounts,
    images=st.integers(0, 20),
    boxes=st.integers(0, 40),
    mean=st.floats(0, 20),
)
def test_it_buys_what_walking_the_whole_ranking_buys(prices, quota, budget, images, boxes, mean):
    session, spent = Session(prices, mean), Spent(images, boxes)
    loop = SimpleNamespace(query_size=quota, budget=budget)
    bought, expected = purchase(session, loop, spent, session.boxes_of), walked(prices, quota, spent, budget)
    if bought is None:
        assert expected == []
        return
    assert list(bought.selection.image_ids) == expected
    assert bought.boxes == tuple(prices[: len(expected)])
    assert bought.selection.diagnostics == {"asked": float(session.asked[-1])}
    assert session.asked == sorted(set(session.asked)), "each ranking is longer than the one before"


@given(number=st.integers(1, 1000), mean=st.floats(0, 50), unlabeled=st.integers(1, 500))
def test_the_first_ranking_is_never_longer_than_the_pool(number, mean, unlabeled):
    for unit in UNITS:
        assert 1 <= first_count(Amount(number, unit), mean, unlabeled) <= unlabeled


@pytest.mark.parametrize("price", [0, 1])
def test_it_ranks_more_until_the_quota_is_met(price):
    """The mean so far promises 20 boxes per image, and the images hold none or one."""
    session, loop = Session([price] * 60, mean=20), SimpleNamespace(query_size=Amount(40, "boxes"), budget=None)
    bought = purchase(session, loop, Spent(), session.boxes_of)
    assert len(bought.selection.image_ids) == (60 if price == 0 else 40)
    assert len(session.asked) > 1
