"""The gap between two learning curves at equal cost, whatever the size of their purchases.

    g(x_k) = a(x_k) - b(x_k)      at the costs x_k after which a was measured; b is interpolated there

A straight line between two points of a concave curve lies below the curve, the more the farther they are apart. Read
between its points, a run that buys much at once would look worse than one that buys little, under every seed. So the
gap is read where the run with fewer purchases was measured, and the other curve is interpolated by a monotone cubic
(Fritsch and Carlson 1980) in the logarithm of the cost, in which learning curves are nearly straight. Between these
points the gap is linear in the logarithm, and beyond them constant. Runs with equally many purchases are read both
ways and averaged, so that g(a, b) = -g(b, a).

Runs of one random seed share round 0, where their gap is 0 and says nothing, so nothing is read there. The range that
all strategies of a seed cover may end before both runs have bought once, because another strategy bought less at first.
Their gap is then read at the first purchase behind its end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from alloop.results.monotone_cubic import MonotoneCubic
from alloop.results.names import Metric
from alloop.results.runs import Run

UNEQUAL = 0.02  # relative difference of two costs above which a curve has to be read between them
GRID = 101  # costs in a range at which curves and gaps are averaged


@dataclass(frozen=True, eq=False)
class Curve:
    """AP against what was paid.

    Attributes:
        cost: rising, none twice.
        ap: one or several curves that were measured at the same costs.
    """

    cost: Float[np.ndarray, " n"]
    ap: Float[np.ndarray, "*curves n"]

    @cached_property
    def least(self) -> float:
        """Where a seed set that cost nothing is placed: half of the first purchase."""
        least = float(self.cost[self.cost > 0].min(initial=np.inf)) / 2
        return least if np.isfinite(least) else 1.0

    @cached_property
    def cubic(self) -> MonotoneCubic:
        """The monotone cubic through at least two points, in the logarithm of the cost."""
        return MonotoneCubic(log_cost(self.cost, self), self.ap)


class Range(NamedTuple):
    """The costs between which curves are compared."""

    low: float
    high: float


def curve_of(run: Run, metric: Metric) -> Curve:
    """Return the curve of a run; of rounds that cost nothing more, the last one counts."""
    return distinct(*run.curve(metric))


def distinct(cost: Float[np.ndarray, " n"], ap: Float[np.ndarray, "*curves n"]) -> Curve:
    """Return a curve without the points after which the cost did not rise."""
    last = np.append(np.diff(cost) > 0, True)[: len(cost)]
    return Curve(cost[last], ap[..., last])


def common_range(curves: Sequence[Curve]) -> Range | None:
    """Return the costs that all curves cover after each of them has bought once; None where there are none.

    Where the first purchase of one run exceeds the last cost of another, the range is that last cost alone.
    """
    if any(not len(curve.cost) for curve in curves):
        return None
    first = max(curve.cost[0] for curve in curves)
    high = min(curve.cost[-1] for curve in curves)
    bought = max(curve.cost[min(1, len(curve.cost) - 1)] for curve in curves)
    return None if first > high else Range(float(min(bought, high)), float(high))


def gap(a: Curve, b: Curve, within: Range) -> Float[np.ndarray, "*curves g"]:
    """Return a's curve minus b's at equally spaced costs; the last one is the right end of the range.

    Args:
        a: one curve or several.
        b: as many curves.
        within: a range that both cover.
    """
    grid = np.linspace(within.low, within.high, GRID)
    first = min(curve.cost[curve.cost > curve.cost[0]].min(initial=np.inf) for curve in (a, b))
    high = max(within.high, min(first, a.cost[-1], b.cost[-1]))
    rows_a, rows_b = _purchases(a, b, high), _purchases(b, a, high)
    if not (rows_a.any() or rows_b.any()):  # round 0 alone
        return np.repeat((a.ap[..., 0] - b.ap[..., 0])[..., None], GRID, axis=-1)
    fewest = min(rows.sum() for rows in (rows_a, rows_b) if rows.any())
    readings = []
    if rows_a.sum() == fewest:
        readings.append(_gap_where_measured(a, b, rows_a, grid))
    if rows_b.sum() == fewest:
        readings.append(-_gap_where_measured(b, a, rows_b, grid))
    mean: np.ndarray = np.mean(readings, axis=0)
    return mean


def with_unequal_single_purchases(runs: Sequence[Run], metric: Metric) -> list[Run]:
    """Return runs of one purchase that ends elsewhere than that of another run of their seed, by more than 2 %.

    Between its two points such a curve is taken for a straight line in the logarithm of the cost, which nothing tests.
    """
    single = [(run, curve) for run in runs if len((curve := curve_of(run, metric)).cost) == 2]
    return [
        run
        for run, curve in single
        if any(
            other.random_seed == run.random_seed and abs(against.cost[-1] / curve.cost[-1] - 1) > UNEQUAL
            for other, against in single
        )
    ]


def ap_between(curve: Curve, cost: Float[np.ndarray, " m"]) -> Float[np.ndarray, "*curves m"]:
    """Return a curve at costs between its ends, by a monotone cubic in the logarithm of the cost."""
    if len(curve.cost) == 1:
        return np.repeat(curve.ap, len(cost), axis=-1)
    values: np.ndarray = curve.cubic(log_cost(cost, curve))
    return values


def log_cost(cost: Float[np.ndarray, " m"], curve: Curve) -> Float[np.ndarray, " m"]:
    """Return the logarithm of costs; a seed set that cost nothing is placed at half of the first purchase."""
    logarithms: np.ndarray = np.log(np.maximum(cost, curve.least))
    return logarithms


def _purchases(one: Curve, other: Curve, high: float) -> Bool[np.ndarray, " n"]:
    """Return which points of a curve follow a purchase and lie where the other curve is known."""
    rows: np.ndarray = (one.cost > one.cost[0]) & (one.cost >= other.cost[0]) & (one.cost <= high)
    return rows


def _gap_where_measured(
    one: Curve, other: Curve, rows: Bool[np.ndarray, " n"], grid: Float[np.ndarray, " g"]
) -> Float[np.ndarray, "*curves g"]:
    gaps = one.ap[..., rows] - ap_between(other, one.cost[rows])
    points, places = log_cost(one.cost[rows], one), log_cost(grid, one)
    between = [np.interp(places, points, values) for values in gaps.reshape(-1, len(points))]
    return np.reshape(between, (*gaps.shape[:-1], len(grid)))
