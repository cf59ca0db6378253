"""The monotone cubic of Fritsch and Butland through the points of a curve.

The figures are those of `scipy.interpolate.PchipInterpolator`, to the last bit; importing that takes longer than all
the comparisons of a study.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

Curves = Float[np.ndarray, "*curves n"]


@dataclass(frozen=True, eq=False)
class MonotoneCubic:
    """A cubic between each two points, which rises and falls only where the points do.

    Attributes:
        x: at least two rising places.
        y: the values there, of one curve or of several.
    """

    x: Float[np.ndarray, " n"]
    y: Curves

    def __call__(self, x: Float[np.ndarray, " m"]) -> Float[np.ndarray, "*curves m"]:
        """Return the values at places between the ends."""
        rows = np.clip(np.searchsorted(self.x, x, side="right") - 1, 0, len(self.x) - 2)
        s = x - self.x[rows]
        constant, first, second, third = (part[..., rows] for part in self._parts)
        values: np.ndarray = constant + first * s + second * (s * s) + third * (s * s * s)
        return values

    @cached_property
    def _parts(self) -> tuple[Curves, Curves, Curves, Curves]:
        """The factors of 1, s, s^2 and s^3 in each interval, s counted from its left end."""
        steps = np.diff(self.x)
        slopes = np.diff(self.y) / steps
        tangents = _tangents(steps, slopes)
        left, right = tangents[..., :-1], tangents[..., 1:]
        bend = (left + right - 2 * slopes) / steps
        return self.y[..., :-1], left, (slopes - left) / steps - bend, bend / steps


def _tangents(steps: Float[np.ndarray, " n"], slopes: Curves) -> Curves:
    """Return the slope of the cubic at each point: 0 at a turn, else a harmonic mean of the slopes beside it."""
    if len(steps) == 1:
        return np.concatenate([slopes, slopes], axis=-1)
    before, after = slopes[..., :-1], slopes[..., 1:]
    turns = (np.sign(before) != np.sign(after)) | (before == 0) | (after == 0)
    w1, w2 = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        inner = np.where(turns, 0.0, 1.0 / ((w1 / before + w2 / after) / (w1 + w2)))
    first = _end(steps[0], steps[1], slopes[..., 0], slopes[..., 1])
    last = _end(steps[-1], steps[-2], slopes[..., -1], slopes[..., -2])
    return np.concatenate([first[..., None], inner, last[..., None]], axis=-1)


def _end(step: float, next_step: float, slope: np.ndarray, next_slope: np.ndarray) -> np.ndarray:
    """Return the slope at an end, by the parabola through three points, kept monotone."""
    tangent = ((2 * step + next_step) * slope - step * next_slope) / (step + next_step)
    steep = (np.sign(slope) != np.sign(next_slope)) & (np.abs(tangent) > 3 * np.abs(slope))
    bounded: np.ndarray = np.where(np.sign(tangent) != np.sign(slope), 0.0, np.where(steep, 3 * slope, tangent))
    return bounded
