"""Whether another round pays: AP gained per 1,000 boxes at the end of the curve, and what the next round may gain.

What the next round may gain is forecast (`alloop.results.forecast`). Stopping is advised when even the upper end of
its interval is less than a gain worth having.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloop.results.forecast import Forecast, forecast
from alloop.results.statistics import LEVEL, Interval

WINDOW = 4  # number of last rounds that the line is fitted to
WORTH = 0.005  # AP that a round should gain


@dataclass(frozen=True, slots=True)
class Gain:
    """Slope of AP over the last rounds, in AP per 1,000 boxes, with its 95 % interval."""

    slope: float
    interval: Interval
    rounds: int


@dataclass(frozen=True, slots=True)
class NextRound:
    """What the next round is expected to take, and what it should gain to be worth it."""

    boxes: float
    cost_per_box: float = 1.0
    worth: float = WORTH

    def words(self) -> str:
        """Return the expectation in words."""
        cost = "" if self.cost_per_box == 1 else f" and to cost {self.boxes * self.cost_per_box:.2f}"
        return f"the next round is expected to take {self.boxes:.0f} boxes{cost}"


def gain_per_1000_boxes(boxes: Sequence[float], ap: Sequence[float]) -> Gain | None:
    """Fit a line by least squares to the last four rounds.

    Return None for fewer rounds, where nothing was paid between them, and where the line cannot be computed.
    """
    from scipy.special import stdtrit  # noqa: PLC0415  slow to import, and scipy.stats is four times as slow

    x, y = np.asarray(boxes[-WINDOW:], dtype=np.float64) / 1000, np.asarray(ap[-WINDOW:], dtype=np.float64)
    if len(x) < WINDOW or x[0] == x[-1]:
        return None
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    half = float(stdtrit(len(x) - 2, (1 + LEVEL) / 2)) * float(np.sqrt(covariance[0, 0]))
    if not (math.isfinite(slope) and math.isfinite(half)):
        return None
    return Gain(float(slope), (float(slope) - half, float(slope) + half), len(x))


def advice(boxes: Sequence[float], ap: Sequence[float], upcoming: NextRound | None) -> str:
    """Return one sentence for the person who decides about another round.

    Args:
        boxes: paid for before each round, in total.
        ap: after each round.
        upcoming: the next round; None where no round is left.
    """
    gain = gain_per_1000_boxes(boxes, ap)
    if gain is None:
        slope = f"{WINDOW} rounds with boxes are needed to estimate what more boxes gain"
        return slope if upcoming is None else f"{upcoming.words()}; {slope}"
    low, high = gain.interval
    slope = (
        f"the last {gain.rounds} rounds gained {gain.slope:+.3f} AP per 1,000 boxes (95 % {low:+.3f} to {high:+.3f})"
    )
    if upcoming is None:
        return f"{slope}; all planned rounds are done"
    return f"{slope}; {upcoming.words()}{_outlook(forecast(boxes, ap), upcoming)}"


def _outlook(found: Forecast | None, upcoming: NextRound) -> str:
    """Return what the next round may gain, and what follows from it; nothing where that is not known."""
    if found is None:
        return ""
    gain = found.gain(upcoming.boxes)
    low, high = gain.low, gain.high
    may = f", and to gain {low:+.3f} to {high:+.3f} AP"
    if high < upcoming.worth:
        return f"{may}, less than {upcoming.worth:g}: think of stopping"
    if low >= upcoming.worth:
        return f"{may}: still rising"
    return f"{may}: these rounds cannot tell whether it is worth {upcoming.worth:g} AP"
