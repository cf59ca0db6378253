"""Whether another round pays: AP gained per 1,000 boxes at the end of the curve, and the cost of the next round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alloop.results.statistics import LEVEL, Interval

WINDOW = 4  # number of last rounds that the line is fitted to


@dataclass(frozen=True, slots=True)
class Gain:
    """Slope of AP over the last rounds, in AP per 1,000 boxes, with its 95 % interval."""

    slope: float
    interval: Interval
    rounds: int

    @property
    def levelled_off(self) -> bool:
        """Whether the gain may be zero or less, since its interval reaches down to zero."""
        return self.interval[0] <= 0


def gain_per_1000_boxes(boxes: Sequence[float], ap: Sequence[float]) -> Gain | None:
    """Fit a line by least squares to the last rounds.

    Return None for fewer than three rounds, or where nothing was paid between them.
    """
    from scipy import stats  # noqa: PLC0415  slow to import

    x, y = np.asarray(boxes[-WINDOW:], dtype=np.float64) / 1000, np.asarray(ap[-WINDOW:], dtype=np.float64)
    if len(x) < 3 or x[0] == x[-1]:
        return None
    line = stats.linregress(x, y)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(x) - 2)) * float(line.stderr)
    return Gain(float(line.slope), (float(line.slope) - half, float(line.slope) + half), len(x))


def advice(boxes: Sequence[float], ap: Sequence[float], next_boxes: float, cost_per_box: float) -> str:
    """Return one sentence for the person who decides about another round."""
    expected = f"the next round is expected to take {next_boxes:.0f} boxes"
    if cost_per_box != 1:
        expected += f" and to cost {next_boxes * cost_per_box:.2f}"
    gain = gain_per_1000_boxes(boxes, ap)
    if gain is None:
        return f"{expected}; three rounds are needed to estimate what more boxes gain"
    low, high = gain.interval
    slope = f"the last {gain.rounds} rounds gained {gain.slope:+.3f} AP per 1,000 boxes"
    verdict = "so the gain may be zero: think of stopping" if gain.levelled_off else "still rising"
    return f"{slope} (95 % {low:+.3f} to {high:+.3f}), {verdict}; {expected}"
