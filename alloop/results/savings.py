"""What a strategy saves: the share of the cost that it does not need for an AP that another one reaches as well.

    target = min(a(x_end), b(x_end))              the AP that both reach within the range that both cover
    saving = 1 - cost_a(target) / cost_b(target)

The definition is symmetric: exchanging a and b turns the ratio of the costs over, and of two strategies that are alike
either one is ahead half of the time. A target that is read off one of them, such as the best AP of random, is reached
by luck, which makes savings of useless strategies positive. Over several seeds the logarithms of the ratios are
averaged, for the same reason.

Noise lets a curve touch a target early and fall again. Therefore each curve is made to rise first, by the rising curve
that is nearest in the least squares (isotonic regression, Barlow et al. 1972).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alloop.results.gaps import Curve, log_cost
from alloop.results.names import Test
from alloop.results.statistics import Interval, interval_of


class Saving(NamedTuple):
    """A share of the cost, negative where the strategy needs more; the interval is None for a single seed."""

    share: float
    interval: Interval | None


def log_cost_ratio(a: Curve, b: Curve, high: float) -> float:
    """Return log(cost of a / cost of b) for the AP that both reach until a cost which both curves cover."""
    rising_a, rising_b = _rising(a, high), _rising(b, high)
    target = min(rising_a.ap[-1], rising_b.ap[-1])
    return _log_cost_of(target, rising_a) - _log_cost_of(target, rising_b)


def mean_saving(log_ratios: Sequence[float], test: Test) -> Saving:
    """Return the saving over several seeds, with its 95 % interval."""
    interval = interval_of(log_ratios, test)
    bounds = None if interval is None else (_share(interval[1]), _share(interval[0]))
    return Saving(_share(float(np.mean(log_ratios))), bounds)


def _share(log_ratio: float) -> float:
    return float(1 - np.exp(log_ratio))


def _rising(curve: Curve, high: float) -> Curve:
    """Return the rising curve nearest to a curve, cut off at a cost; the costs become logarithms."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415  slow to import

    cost, end = log_cost(curve.cost, curve), log_cost(np.array([high]), curve)
    ap = isotonic_regression(curve.ap).x
    inside = cost < end
    return Curve(np.append(cost[inside], end), np.append(ap[inside], np.interp(end, cost, ap)))


def _log_cost_of(target: float, rising: Curve) -> float:
    """Return where a curve first reaches a target, on straight lines in the logarithm of the cost."""
    first = int(np.argmax(rising.ap >= target))
    if first == 0:
        return float(rising.cost[0])
    (x0, x1), (y0, y1) = rising.cost[first - 1 : first + 1], rising.ap[first - 1 : first + 1]
    return float(x0 + (target - y0) / (y1 - y0) * (x1 - x0))
