"""Savings: by hand, and by the laws that make them fair."""

import math

import numpy as np
import pytest
from hypothesis import given

from alloop.results.compare import compared
from alloop.results.gaps import Curve, common_range
from alloop.results.savings import log_cost_ratio, mean_saving
from tests.results.test_gaps import curve, two_curves
from tests.support.runs import run


def test_a_saving_by_hand():
    a, b = curve([100, 200, 400], [0.1, 0.4, 0.6]), curve([100, 200, 400], [0.1, 0.2, 0.4])
    # both reach 0.4: a at 200, b at 400
    assert log_cost_ratio(a, b, 400) == pytest.approx(math.log(200 / 400))
    assert mean_saving([math.log(0.5)], "t") == (pytest.approx(0.5), None)


def test_the_target_is_what_both_reach_within_the_range_of_both():
    """What a strategy reaches beyond the end of the other says nothing about the other."""
    a, b = curve([100, 200, 800], [0.1, 0.3, 0.9]), curve([100, 400], [0.1, 0.5])
    level = 0.3 + 0.6 * math.log(2) / math.log(4)  # a's at 400, which is more than b's 0.5
    needed = 200 * 4 ** ((0.5 - 0.3) / 0.6)
    assert level > 0.5
    assert log_cost_ratio(a, b, 400) == pytest.approx(math.log(needed / 400))


def test_a_target_that_is_touched_by_luck_and_lost_again_does_not_count():
    lucky, steady = curve([100, 200, 300, 400], [0.1, 0.5, 0.3, 0.4]), curve([100, 200, 300, 400], [0.1, 0.2, 0.3, 0.4])
    # isotonic regression replaces 0.5, 0.3 and 0.4 by their mean
    assert log_cost_ratio(lucky, steady, 400) == pytest.approx(math.log(200 / 400))
    assert log_cost_ratio(curve([100, 200], [0.3, 0.1]), curve([100, 200], [0.3, 0.1]), 200) == 0


@given(two_curves())
def test_exchanging_two_runs_turns_the_ratio_over(pair):
    a, b = pair
    high = common_range(pair).high
    assert log_cost_ratio(a, b, high) == pytest.approx(-log_cost_ratio(b, a, high))


@given(two_curves())
def test_half_of_the_cost_everywhere_saves_half(pair):
    a, _ = pair
    cheap = Curve(a.cost / 2, a.ap)
    if a.ap[0] == a.ap.min() and np.all(np.diff(a.ap) > 0.01) and cheap.cost[-1] >= a.cost[0]:
        assert -1e-9 >= log_cost_ratio(cheap, a, cheap.cost[-1]) >= math.log(0.5) - 1e-9


def test_over_several_seeds_the_logarithms_are_averaged():
    """Of two strategies alike, twice as much under one seed and half under another are no saving."""
    share, interval = mean_saving([math.log(2), math.log(0.5)], "t")
    assert share == pytest.approx(0)
    assert interval[0] < 0 < interval[1]
    share, (low, high) = mean_saving([math.log(0.8), math.log(0.7), math.log(0.75)], "t")
    assert low < share < high
    half = 4.302653 * np.std(np.log([0.8, 0.7, 0.75]), ddof=1) / math.sqrt(3)
    assert (low, high) == pytest.approx(
        (1 - math.exp(math.log(0.42) / 3 + half), 1 - math.exp(math.log(0.42) / 3 - half))
    )


def study(shift, seeds=5):
    random = np.random.default_rng(3)
    runs = []
    for seed in range(seeds):
        for name, level in (("random", 0.0), ("a", shift)):
            ap = 0.1 * np.arange(1, 6) + 0.003 * random.normal(size=5) + level * (np.arange(5) > 0)
            runs.append(run(name, [100, 200, 400, 800, 1600], ap.tolist(), seed))
    return runs


def test_only_a_verdict_has_a_saving():
    """A figure beside an inconclusive verdict is read as a finding."""
    (better,), (worse,), (alike,) = (compared(study(shift), "ap").versus for shift in (0.05, -0.05, 0.0))
    assert better.saving == pytest.approx(1 - 2**-0.5, abs=0.05)  # 0.05 AP are half of a doubling
    assert better.saving_interval[0] < better.saving < better.saving_interval[1]
    assert worse.saving == pytest.approx(1 - 2**0.5, abs=0.05)
    assert (alike.verdict, alike.saving, alike.saving_interval) == ("inconclusive", None, None)


@pytest.mark.parametrize("seeds", [1, 5])
def test_a_strategy_that_is_random_saves_as_often_as_it_wastes(seeds):
    random, cost = np.random.default_rng(seeds), np.linspace(1338, 13813, 10)
    law = 0.62 * (1 - np.exp(-((cost / 5200) ** 1.5)))
    noise = random.normal(0, 0.008, (1500, seeds, 2, 10)) * (np.arange(10) > 0)
    ratios = np.array(
        [[log_cost_ratio(Curve(cost, law + a), Curve(cost, law + b), cost[-1]) for a, b in study] for study in noise]
    ).mean(axis=1)
    assert abs(ratios.mean()) < 2.5 * ratios.std() / math.sqrt(1500)
    assert abs(np.mean(ratios < 0) - 0.5) < 2.5 * 0.5 / math.sqrt(1500)
