"""How AP goes on after the rounds of a run: a curve with a ceiling and its uncertainty, by Bayes' rule.

    AP(n) = c / (1 + (k / n)^b)                   n boxes paid, c the ceiling, k the boxes for half of it, b the slope

After many boxes this is a power law with a ceiling, c - c (k / n)^b, the usual form of learning curves (Hestness et
al., Deep Learning Scaling is Predictable, Empirically, 2017). Before, it has the steep beginning that a power law
lacks. `python benchmarks/forecast.py` compares both on the curves in `benchmarks/results`, and counts how often the
interval of this one holds.

What is assumed before a round is seen: every AP at the first and at the last round and every ceiling between 0 and 1
are equally likely, 0.2 < b < 3, and equal trainings differ by about 0.01 AP or 0.02 AP50, a guess that weighs as much
as four rounds. For given b and k the rounds are c times a known shape, so c has Student's distribution in closed form.
The rest is a grid, which is refined where the posterior is. So the same rounds give the same figures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from alloop.results.names import Metric
from alloop.results.statistics import LEVEL

Array = Float64[np.ndarray, " n"]

ROUNDS = 3  # fewer say nothing
BEYOND = 2.0  # times the boxes paid; the recorded curves test forecasts up to there and no further
SLOPES = (0.2, 3.0)
NOISE, NOISE_WEIGHT = (
    {"ap": 0.01, "ap50": 0.02},
    4,
)  # between equal trainings; the number of rounds it weighs as much as
GRID, PASSES, ENOUGH = 48, 4, 400  # points along an axis; refinements; cells that must matter for the grid to be fine
MATTERS = 1e-5  # weight of a cell relative to the largest
CEILINGS = 9  # quantiles of c at each cell


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; `inf` where a number of boxes is never enough."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """Curves that the rounds allow, each with its probability.

    Attributes:
        paid: boxes paid for before the last round.
        slopes: b of each curve.
        log_halves: log k of each curve.
        ceilings: c of each curve.
        weights: their probabilities; the sum is 1.
        noise: by how much the AP of a training differs from each curve.
    """

    paid: float
    slopes: Array
    log_halves: Array
    ceilings: Array
    weights: Array
    noise: Array

    def curves_at(self, boxes: float) -> Array:
        """Return the AP of each curve after a number of boxes."""
        values: Array = self.ceilings * _shapes(self.slopes, self.log_halves, np.array([np.log(boxes)]))[:, 0]
        return values

    def ap(self, boxes: float) -> Estimate:
        """Return what AP is after a number of boxes, in total. One training differs from it by chance."""
        return self._estimate(self.curves_at(boxes))

    def gain(self, boxes: float) -> Estimate:
        """Return by how much AP grows with further boxes."""
        return self._estimate(self.curves_at(self.paid + boxes) - self.curves_at(self.paid))

    def boxes_for(self, target: float) -> Estimate:
        """Return the boxes, in total, after which AP is a target; `inf` where the ceiling is not above it."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            boxes = np.exp(self.log_halves + np.log(target / (self.ceilings - target)) / self.slopes)
        return self._estimate(np.where(self.ceilings > target, boxes, np.inf))

    def _estimate(self, values: Array) -> Estimate:
        order = np.argsort(values, kind="stable")
        cumulated = np.cumsum(self.weights[order])
        rows = np.searchsorted(cumulated, np.array([0.5, (1 - LEVEL) / 2, (1 + LEVEL) / 2]) * cumulated[-1])
        median, low, high = values[order][np.minimum(rows, len(values) - 1)]
        return Estimate(float(median), float(low), float(high))


def forecast(boxes: Sequence[float] | Array, ap: Sequence[float] | Array, metric: Metric = "ap") -> Forecast | None:
    """Fit the curve to rounds.

    Args:
        boxes: paid for before each round, in total, in ascending order. Of rounds with equally many the last counts.
        ap: after each round.
        metric: what `ap` is; it says how much equal trainings differ.

    Returns:
        The forecast; None for fewer than three rounds that bought something, and where a value is not finite.
    """
    n, y = np.asarray(boxes, dtype=np.float64), np.asarray(ap, dtype=np.float64)
    last = np.append(n[1:] > n[:-1], True) & (n > 0) if len(n) else np.empty(0, dtype=bool)
    n, y = n[last], y[last]
    if len(n) < ROUNDS or not (np.isfinite(n).all() and np.isfinite(y).all()):
        return None
    return _posterior(n, y, NOISE.get(metric, NOISE["ap50"]))


def _posterior(n: Array, y: Array, guess: float) -> Forecast:
    """Compute the weights of a grid of (log b, log k), and refine it until enough cells matter."""
    (low_b, high_b), (low_k, high_k) = np.log(SLOPES), np.log([n[0] / 10, n[-1] * 50])
    for _ in range(PASSES):
        line_b, line_k = np.linspace(low_b, high_b, GRID), np.linspace(low_k, high_k, GRID)
        log_b, log_k = np.repeat(line_b, GRID), np.tile(line_k, GRID)
        cells = _Cells.of(n, y, guess, np.exp(log_b), log_k)
        if cells.matter.sum() >= ENOUGH:
            break
        low_b, high_b = _around(line_b, log_b[cells.matter])
        low_k, high_k = _around(line_k, log_k[cells.matter])
    return cells.forecast(n[-1])


def _around(line: Array, matter: Array) -> tuple[float, float]:
    """Return the range of what matters on a line, one step wider on both sides where the line goes on."""
    step = float(line[1] - line[0])
    return max(float(line[0]), float(matter.min()) - step), min(float(line[-1]), float(matter.max()) + step)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """The cells of the grid: b, log k, the distribution of c (centre, scale, mass in (0, 1)), noise and weight."""

    slopes: Array
    log_halves: Array
    centres: Array
    scales: Array
    mass: Float64[np.ndarray, "2 n"]
    noise: Array
    freedom: int
    weights: Array

    @classmethod
    def of(cls, n: Array, y: Array, guess: float, slopes: Array, log_halves: Array) -> "_Cells":
        from scipy.special import stdtr  # noqa: PLC0415  slow to import

        shapes = _shapes(slopes, log_halves, np.log(n))
        squares = (shapes**2).sum(axis=1)
        centres = shapes @ y / squares
        residuals = ((y - centres[:, None] * shapes) ** 2).sum(axis=1)
        freedom = NOISE_WEIGHT + len(n) - 1
        variance = (NOISE_WEIGHT * guess**2 + residuals) / freedom
        scales = np.sqrt(variance / squares)
        mass = np.stack([stdtr(freedom, (limit - centres) / scales) for limit in (0.0, 1.0)])
        first, last = shapes[:, 0], shapes[:, -1]
        # equally likely are AP at both ends, not log b and log k: the determinant of the derivatives
        flat = (centres.clip(0.001, 1) * slopes) ** 2 * first * (1 - first) * last * (1 - last)
        likelihood = -0.5 * np.log(squares) - 0.5 * freedom * np.log(variance)
        with np.errstate(divide="ignore"):
            log_weights = likelihood + np.log(mass[1] - mass[0]) + np.log(flat)
        weights = np.exp(log_weights - log_weights.max())
        return cls(slopes, log_halves, centres, scales, mass, np.sqrt(variance), freedom, weights)

    @property
    def matter(self) -> Bool[np.ndarray, " n"]:
        return self.weights > MATTERS

    def forecast(self, paid: float) -> Forecast:
        """Return the cells that matter, each with some quantiles of its ceiling."""
        from scipy.special import stdtrit  # noqa: PLC0415

        rows = self.matter
        low, high = self.mass[:, rows]
        shares = (np.arange(CEILINGS) + 0.5) / CEILINGS
        quantiles = stdtrit(self.freedom, low[:, None] + (high - low)[:, None] * shares)
        ceilings = self.centres[rows, None] + self.scales[rows, None] * quantiles
        weights = np.repeat(self.weights[rows], CEILINGS)
        return Forecast(
            float(paid),
            np.repeat(self.slopes[rows], CEILINGS),
            np.repeat(self.log_halves[rows], CEILINGS),
            ceilings.ravel().clip(0, 1),
            weights / weights.sum(),
            np.repeat(self.noise[rows], CEILINGS),
        )


def _shapes(slopes: Array, log_halves: Array, log_boxes: Float64[np.ndarray, " r"]) -> Float64[np.ndarray, "n r"]:
    """Return AP(n) / c of each curve at each number of boxes."""
    shapes: Float64[np.ndarray, "n r"] = 1 / (1 + np.exp(slopes[:, None] * (log_halves[:, None] - log_boxes)))
    return shapes
