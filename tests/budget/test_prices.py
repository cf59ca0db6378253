"""Prices: one list serves booking and repricing, and what cannot be a price is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.budget.charges import Edits, RoundCharges
from alloop.budget.prices import BOXES, COST_MODELS, CostModel, PriceList, cost_model
from alloop.errors import ConfigError

price = st.floats(0, 1e6)
count = st.integers(0, 1000)


@given(image=price, box=price, empty=price, second=price, images=count, boxes=count, seconds=price)
def test_the_cost_is_the_sum_of_units_times_prices(image, box, empty, second, images, boxes, seconds):
    prices = PriceList(image=image, box=box, empty=empty, second=second)
    expected = image * images + box * boxes + empty * 3 + second * seconds
    assert prices.cost(images=images, boxes=boxes, empty=3, seconds=seconds) == pytest.approx(expected)


@given(accepted=count, moved=count, deleted=count, added=count, box=price)
def test_edits_without_prices_of_their_own_cost_a_box_each_that_came_back(accepted, moved, deleted, added, box):
    edits = Edits(accepted=accepted, moved=moved, deleted=deleted, added=added)
    returned = accepted + moved + added
    assert PriceList(box=box).cost(boxes=returned, edits=edits) == pytest.approx(box * returned)


def test_each_edit_has_its_price():
    prices = PriceList(box=10, accepted=1, moved=2, added=3, deleted=4)
    for name, expected in {"accepted": 1, "moved": 2, "added": 3, "deleted": 4}.items():
        edits = Edits(**(dict.fromkeys(("accepted", "moved", "deleted", "added"), 0) | {name: 1}))
        assert prices.cost(boxes=1, edits=edits) == expected, name


def test_a_booked_round_and_its_images_one_by_one_cost_the_same():
    prices = PriceList(image=0.5, box=2, empty=3, second=0.1)
    whole = CostModel("all", prices=prices).cost(RoundCharges(round=1, images=3, boxes=5, empty=1, seconds=20))
    parts = [prices.cost(boxes=boxes, empty=int(boxes == 0), seconds=s) for boxes, s in ((0, 5), (2, 5), (3, 10))]
    assert whole == pytest.approx(sum(parts))


def test_the_json_of_a_cost_model_has_every_price_by_name():
    model = cost_model("image=0.5,box=2,empty=3,second=4,booked=5,unit=EUR")
    expected = {"name": "EUR", "unit": "", "image": 0.5, "box": 2, "empty": 3, "second": 4, "booked": 5}
    assert model.to_json() == expected
    assert BOXES.to_json()["box"] == 1


@pytest.mark.parametrize("text", ["accepted=1", "moved=1", "deleted=1"])
def test_edits_cannot_be_priced_again_since_a_ledger_has_no_sums_of_them(text):
    with pytest.raises(ConfigError, match="unknown price"):
        cost_model(text)


def test_only_the_model_of_seconds_needs_them():
    assert [name for name, model in COST_MODELS.items() if model.needs_seconds] == ["seconds"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bxes", "did you mean 'boxes'"),
        ("images=1", "did you mean 'image'"),
        ("box=much", "expected a number"),
        ("box=-1", "0 or more"),
        ("box=nan", "0 or more"),
        ("box=0", "one of them above 0"),
        ("unit=EUR", "one of them above 0"),
    ],
)
def test_prices_that_mean_nothing_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        cost_model(text)
