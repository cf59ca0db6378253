"""The gap at equal cost: by hand, against a slow second implementation, and by its laws."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alloop.results.compare import mean_gap
from alloop.results.gaps import (
    GRID,
    Curve,
    Range,
    ap_between,
    common_range,
    curve_of,
    distinct,
    gap,
    with_unequal_single_purchases,
)
from tests.support.runs import run


def curve(cost, ap):
    return Curve(np.array(cost, dtype=float), np.array(ap, dtype=float))


def test_the_gap_of_runs_with_equal_purchases_is_read_where_both_were_measured():
    a, b = curve([100, 200, 400], [0.1, 0.4, 0.6]), curve([100, 200, 400], [0.1, 0.3, 0.4])
    within = common_range([a, b])
    assert within == Range(200, 400)
    gaps = gap(a, b, within)
    assert (gaps[0], gaps[-1]) == pytest.approx((0.1, 0.2))
    # between them it is linear in the logarithm: at 300, log2(1.5) of the way
    assert gaps[GRID // 2] == pytest.approx(0.1 + 0.1 * math.log2(1.5))


def test_round_0_which_both_share_is_not_read():
    """Its gap of 0 would make every difference smaller, the more so the fewer the rounds."""
    shared = [run("a", [100, 200], [0.2, 0.5]), run("b", [100, 200], [0.2, 0.4])]
    assert mean_gap(*shared, "ap") == pytest.approx(0.1)


def test_round_0_is_read_where_nothing_else_is_there():
    assert mean_gap(run("a", [100], [0.25]), run("b", [100], [0.2]), "ap") == pytest.approx(0.05)
    assert mean_gap(run("a", [100, 200], [0.25, 0.5]), run("b", [100], [0.2]), "ap") == pytest.approx(0.05)


def test_a_third_run_that_buys_less_does_not_hide_the_gap_of_two_others():
    """A range that ended before their first purchase once gave the gap of round 0, which is 0."""
    a, b = curve([100, 240], [0.2, 0.5]), curve([100, 250], [0.2, 0.4])
    alone, all_three = common_range([a, b]), common_range([a, b, curve([100, 200], [0.2, 0.3])])
    assert (alone, all_three) == (Range(240, 240), Range(200, 200))
    expected = 0.5 - (0.2 + 0.2 * math.log(2.4) / math.log(2.5))  # b is read at 240, in the logarithm
    assert gap(a, b, alone) == pytest.approx(np.full(GRID, expected))
    assert gap(a, b, all_three) == pytest.approx(np.full(GRID, expected))
    assert gap(b, a, all_three) == pytest.approx(np.full(GRID, -expected))


@pytest.mark.parametrize(
    ("ends", "named"),
    [
        ({"a": [100, 200], "b": [100, 240]}, ["a", "b"]),
        ({"a": [100, 200], "b": [100, 203]}, []),
        ({"a": [100, 200, 300], "b": [100, 240]}, []),
        ({"a": [100, 200, 300], "b": [100, 240], "c": [100, 340]}, ["b", "c"]),
        ({"a": [100], "b": [100]}, []),
    ],
)
def test_runs_of_one_purchase_of_unequal_size_are_found(ends, named):
    runs = [run(name, paid, [0.1] * len(paid)) for name, paid in ends.items()]
    assert [one.strategy for one in with_unequal_single_purchases(runs, "ap")] == named
    others = [run(name, paid, [0.1] * len(paid), seed=k) for k, (name, paid) in enumerate(ends.items())]
    assert with_unequal_single_purchases(others, "ap") == [], "runs of other seeds are not compared with each other"


def test_runs_that_share_no_range_have_no_gap():
    a = run("a", [100, 200], [0.2, 0.4])
    assert mean_gap(a, run("b", [300, 400], [0.3, 0.4]), "ap") is None
    assert mean_gap(a, run("b", [], []), "ap") is None


def test_a_range_begins_where_every_run_has_bought_once_and_ends_with_the_first_of_them():
    runs = [curve([10, 20, 30, 40], [0] * 4), curve([10, 25, 45], [0] * 3)]
    assert common_range(runs) == Range(25, 40)
    assert common_range([*runs, curve([10, 90], [0] * 2)]) == Range(40, 40), "its first purchase is larger than all"


def test_of_rounds_that_cost_nothing_more_the_last_one_counts():
    """A round may buy images without a box."""
    merged = distinct(np.array([10.0, 20.0, 20.0, 30.0]), np.array([0.1, 0.2, 0.3, 0.4]))
    assert merged.cost.tolist() == [10, 20, 30]
    assert merged.ap.tolist() == [0.1, 0.3, 0.4]
    assert curve_of(run("a", [10, 10, 20], [0.1, 0.2, 0.3]), "ap").ap.tolist() == [0.2, 0.3]


def test_a_seed_set_may_cost_nothing():
    """The logarithm of 0 is not finite; the gap is."""
    a, b = curve([0, 100, 200], [0.1, 0.3, 0.5]), curve([0, 50, 150], [0.1, 0.2, 0.3])
    assert np.isfinite(gap(a, b, common_range([a, b]))).all()
    nothing = curve([0], [0.1]), curve([0], [0.3])
    assert gap(*nothing, common_range(nothing)) == pytest.approx(np.full(GRID, -0.2))


def learning_curve(cost):
    """A law that no interpolation reproduces: it turns from convex to concave in the logarithm of the cost."""
    return 0.62 * (1 - np.exp(-((np.asarray(cost) / 5200) ** 1.5)))


@pytest.mark.parametrize("factor", [0.4, 1.3, 2.5, 4.0])
def test_larger_purchases_are_no_disadvantage(factor):
    """A strategy that follows random's law has no gap, whatever it buys at once; on straight lines it has one."""
    small = np.linspace(1338, 13813, 10)
    large = np.append(1338, np.arange(1338 + factor * 1386, 13813 + factor * 1386, factor * 1386))
    a, b = curve(large, learning_curve(large)), curve(small, learning_curve(small))
    within = common_range([a, b])
    assert abs(gap(a, b, within).mean()) < 0.0005
    grid = np.linspace(*within, GRID)
    straight = np.interp(grid, a.cost, a.ap) - np.interp(grid, b.cost, b.ap)
    assert abs(straight.mean()) > 0.0005


costs = st.lists(st.integers(1, 500), min_size=1, max_size=7).map(lambda steps: np.cumsum([50, *steps]).astype(float))


@st.composite
def two_curves(draw):
    def one():
        cost = draw(costs)
        return Curve(
            cost, np.array(draw(st.lists(st.integers(0, 1000), min_size=len(cost), max_size=len(cost)))) / 1000
        )

    return one(), one()


@given(two_curves())
def test_exchanging_two_runs_turns_the_sign(pair):
    a, b = pair
    within = common_range(pair)
    assert gap(a, b, within) == pytest.approx(-gap(b, a, within))


@given(two_curves(), st.sampled_from([0.01, 0.3, 35.0]))
def test_the_unit_of_the_cost_does_not_matter(pair, factor):
    a, b = pair
    scaled = [Curve(one.cost * factor, one.ap) for one in pair]
    assume(np.all(np.diff(scaled[0].cost) > 0) and np.all(np.diff(scaled[1].cost) > 0))
    assume((a.cost <= common_range(pair).high).sum() == (scaled[0].cost <= common_range(scaled).high).sum())
    assume((b.cost <= common_range(pair).high).sum() == (scaled[1].cost <= common_range(scaled).high).sum())
    assert gap(*scaled, common_range(scaled)) == pytest.approx(gap(a, b, common_range(pair)), abs=1e-6)


@given(two_curves(), st.integers(-500, 500))
def test_a_curve_that_lies_higher_by_a_constant_has_that_gap(pair, shift):
    a, _ = pair
    higher = Curve(a.cost, a.ap + shift / 1000)
    assert gap(higher, a, common_range([a, a])) == pytest.approx(np.full(GRID, shift / 1000), abs=1e-9)


@given(two_curves(), st.floats(50, 600))
def test_a_curve_that_lies_higher_after_round_0_has_that_gap_wherever_the_range_ends(pair, end):
    a, _ = pair
    assume(len(a.cost) > 1)
    higher = Curve(a.cost, np.append(a.ap[0], a.ap[1:] + 0.25))
    end = float(np.clip(end, a.cost[0], a.cost[-1]))
    assert gap(higher, a, Range(end, end)) == pytest.approx(np.full(GRID, 0.25))


@given(two_curves(), st.floats(0, 1))
def test_the_gap_equals_a_second_one_that_is_computed_point_by_point(pair, share):
    """The range is that of the two, or ends earlier because of a third run."""
    a, b = pair
    whole = common_range(pair)
    begin = max(a.cost[0], b.cost[0])
    end = begin + share * (whole.high - begin)
    within = whole if share > 0.9 else Range(min(whole.low, end), end)
    expected = [slow_gap(a, b, cost, within.high) for cost in np.linspace(*within, GRID)]
    assert gap(a, b, within) == pytest.approx(np.array(expected), abs=1e-9)


def slow_gap(a, b, cost, high):
    """Compute what the head of `gaps` says, with no array operation."""
    bought_a = [k for k in range(1, len(a.cost)) if a.cost[k] <= high]
    bought_b = [k for k in range(1, len(b.cost)) if b.cost[k] <= high]
    if not bought_a and not bought_b and min(len(a.cost), len(b.cost)) > 1:
        bought_a = [1] if a.cost[1] <= b.cost[1] else []
        bought_b = [1] if b.cost[1] <= a.cost[1] else []
    if not bought_a and not bought_b:
        return a.ap[0] - b.ap[0]
    readings = []
    if bought_a and (not bought_b or len(bought_a) <= len(bought_b)):
        readings.append(between([(a.cost[k], a.ap[k] - cubic(b, a.cost[k])) for k in bought_a], cost))
    if bought_b and (not bought_a or len(bought_b) <= len(bought_a)):
        readings.append(between([(b.cost[k], cubic(a, b.cost[k]) - b.ap[k]) for k in bought_b], cost))
    return sum(readings) / len(readings)


def between(points, cost):
    """Interpolate linearly in the logarithm, constant beyond the ends."""
    if cost <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in pairwise(points):
        if cost <= x1:
            return y0 + (y1 - y0) * math.log(cost / x0) / math.log(x1 / x0)
    return points[-1][1]


def cubic(curve, cost):
    """Interpolate by Fritsch and Carlson's monotone cubic, with the slopes of scipy's `PchipInterpolator`."""
    x, y = [math.log(c) for c in curve.cost], list(curve.ap)
    if len(x) == 1:
        return y[0]
    steps = [x[k + 1] - x[k] for k in range(len(x) - 1)]
    chords = [(y[k + 1] - y[k]) / steps[k] for k in range(len(steps))]
    slopes = [chords[0]] * 2 if len(x) == 2 else None
    if slopes is None:
        inner = []
        for k in range(1, len(x) - 1):
            if chords[k - 1] * chords[k] <= 0:
                inner.append(0.0)
                continue
            w1, w2 = 2 * steps[k] + steps[k - 1], steps[k] + 2 * steps[k - 1]
            inner.append((w1 + w2) / (w1 / chords[k - 1] + w2 / chords[k]))
        slopes = [end_slope(steps, chords), *inner, end_slope(steps[::-1], chords[::-1])]
    at = math.log(cost)
    k = max(0, min(len(steps) - 1, sum(value <= at for value in x) - 1))
    t = (at - x[k]) / steps[k]
    return (
        (1 + 2 * t) * (1 - t) ** 2 * y[k]
        + t * (1 - t) ** 2 * steps[k] * slopes[k]
        + t**2 * (3 - 2 * t) * y[k + 1]
        + t**2 * (t - 1) * steps[k] * slopes[k + 1]
    )


def end_slope(steps, chords):
    slope = ((2 * steps[0] + steps[1]) * chords[0] - steps[0] * chords[1]) / (steps[0] + steps[1])
    if slope * chords[0] <= 0:
        return 0.0
    return 3 * chords[0] if chords[0] * chords[1] <= 0 and abs(slope) > 3 * abs(chords[0]) else slope


def test_several_curves_at_once_equal_one_after_the_other():
    random = np.random.default_rng(0)
    cost, other = np.array([10.0, 20.0, 40.0, 70.0]), np.array([10.0, 35.0, 60.0])
    many, others = random.random((5, 4)), random.random((5, 3))
    within = common_range([Curve(cost, many[0]), Curve(other, others[0])])
    together = gap(Curve(cost, many), Curve(other, others), within)
    for k in range(5):
        assert together[k] == pytest.approx(gap(Curve(cost, many[k]), Curve(other, others[k]), within), abs=1e-12)
    assert ap_between(Curve(cost, many), np.array([10.0, 70.0])) == pytest.approx(many[:, [0, -1]])
