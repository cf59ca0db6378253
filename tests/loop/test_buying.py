"""The purchase loop, checked against the obvious way: price the whole ranking and walk it."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.amounts import Amount, Spent, first_count
from alloop.budget.charges import PassedOver
from alloop.loop.buying import Walk, purchase
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


class Apart:
    """Images whose numbers differ by less than a distance may not be bought beside each other."""

    def __init__(self, distance, taken=()):
        self.name, self.distance, self.taken = f"closer than {distance}", distance, list(taken)

    def admits(self, image_id):
        return all(abs(image_id - other) >= self.distance for other in self.taken)

    def take(self, image_id):
        assert self.admits(image_id), "only what is admitted is taken"
        self.taken.append(image_id)


def walked_with_rules(ranking, prices, quota, spent, budget, rules):
    """Buy what the rules admit, then what they did not, as a person would do it on paper with the whole ranking."""
    bought, refused = [], {}

    def buys(image_id):
        boxes = sum(round(prices[i - 1]) for i in bought)
        if {"images": len(bought), "boxes": boxes}[quota.unit] >= quota.number:
            return False
        total = {"images": spent.images + len(bought) + 1, "boxes": spent.boxes + boxes + round(prices[image_id - 1])}
        if budget is not None and total[budget.unit] > budget.number:
            return False
        bought.append(image_id)
        return True

    for image_id in ranking:
        against = [rule.name for rule in rules if not rule.admits(image_id)]
        if against:
            refused[image_id] = against[0]
        elif not buys(image_id):
            return bought, refused
        else:
            for rule in rules:
                rule.take(image_id)
    for image_id in refused:
        if not buys(image_id):
            break
    return bought, refused


@given(
    prices=st.lists(st.floats(0, 9), min_size=1, max_size=40),
    quota=amounts,
    budget=st.none() | amounts,
    distances=st.lists(st.integers(1, 6), max_size=3),
    labeled=st.lists(st.integers(1, 40), max_size=3),
)
def test_it_buys_what_a_walk_with_rules_buys(prices, quota, budget, distances, labeled):
    session = Session(prices, mean=3)
    loop = SimpleNamespace(query_size=quota, budget=budget)

    def rules(_ranking=()):
        return [Apart(distance, labeled) for distance in distances]

    bought = purchase(session, loop, Spent(2, 5), session.boxes_of, rules)
    expected, refused = walked_with_rules(range(1, len(prices) + 1), prices, quota, Spent(2, 5), budget, rules())
    if bought is None:
        assert expected == []
        return
    assert list(bought.selection.image_ids) == expected
    assert bought.boxes == tuple(prices[image_id - 1] for image_id in expected)
    assert list(bought.selection.utilities) == [1 - image_id for image_id in expected], "each keeps its own utility"
    passed = {passed.image_id: passed.rule for passed in bought.passed_over}
    last = max((image_id for image_id in expected if image_id not in refused), default=0)
    assert passed == {i: rule for i, rule in refused.items() if i < last or i in expected}
    assert all(p.bought == (p.image_id in expected) for p in bought.passed_over)


def test_an_image_that_was_passed_over_is_bought_last_in_ranking_order():
    session, loop = Session([1] * 6, mean=1), SimpleNamespace(query_size=Amount(4, "images"), budget=None)
    bought = purchase(session, loop, Spent(), session.boxes_of, lambda _ranking: [Apart(3)])
    assert bought.selection.image_ids == (1, 4, 2, 3)
    assert bought.passed_over == (
        PassedOver(2, "closer than 3", 1, bought=True),
        PassedOver(3, "closer than 3", 1, bought=True),
    ), "images 5 and 6 come after the last one that was bought"
    assert bought.selection.diagnostics == {
        "asked": 6.0,
        "closer than 3_images_passed_over": 0,
        "closer than 3_boxes_passed_over": 0.0,
        "closer than 3_images_bought": 2,
    }


def test_a_walk_tells_the_rules_only_what_was_bought():
    rule = Apart(1)
    walk = iter(Walk((7, 8, 9), [rule], take_passed_over=False))
    assert [next(walk), next(walk)] == [7, 8]
    assert rule.taken == [7], "nobody has asked for the image after 8, so 8 is only offered"
