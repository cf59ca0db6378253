"""The runs of a study in pairs of equal random seed, on the range of costs that all runs of the seed cover."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alloop.results.gaps import GRID, Curve, Range, ap_between, common_range, curve_of, gap
from alloop.results.names import Metric
from alloop.results.runs import Run
from alloop.results.savings import log_cost_ratio


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two strategies under the seeds that both have.

    Attributes:
        gaps: for each seed the mean gap between the two curves over the range of the seed.
        ends: for each seed the gap at the right end of the range.
        curves: the two curves of each seed.
        ranges: the range of each seed.
    """

    gaps: tuple[float, ...]
    ends: tuple[float, ...]
    curves: tuple[tuple[Curve, Curve], ...]
    ranges: tuple[Range, ...]

    def log_cost_ratios(self) -> list[float]:
        """Return for each seed what `savings.log_cost_ratio` reads at the right end of the range."""
        return [log_cost_ratio(a, b, span.high) for (a, b), span in zip(self.curves, self.ranges, strict=True)]


@dataclass(frozen=True, slots=True)
class CurvesBySeed:
    """The curves of a study.

    Attributes:
        curves: by random seed and strategy.
        ranges: by random seed, the costs between which its curves are compared; a seed without any is left out.
    """

    curves: Mapping[int, Mapping[str, Curve]]
    ranges: Mapping[int, Range]

    @classmethod
    def of_runs(cls, runs: Sequence[Run], metric: Metric) -> "CurvesBySeed":
        """Return the curves of runs with a budget.

        A run that has not bought yet is left out once another run of its seed has: there is nothing to compare so far.
        """
        by_seed: dict[int, dict[str, Curve]] = {}
        for run in runs:
            curve = curve_of(run, metric)
            if not run.full_label and len(curve.cost):
                by_seed.setdefault(run.random_seed, {})[run.strategy] = curve
        curves = {seed: _begun(of_seed) for seed, of_seed in by_seed.items()}
        spans = {seed: common_range(list(of_seed.values())) for seed, of_seed in sorted(curves.items())}
        return cls(curves, {seed: span for seed, span in spans.items() if span is not None})

    @property
    def names(self) -> list[str]:
        """All strategies, in the order of the runs."""
        return list(dict.fromkeys(name for of_seed in self.curves.values() for name in of_seed))

    def pairs(self, strategy: str, baseline: str) -> Pairs:
        """Return two strategies under all seeds that both have."""
        seeds = [seed for seed in self.ranges if {strategy, baseline} <= self.curves[seed].keys()]
        curves = tuple((self.curves[seed][strategy], self.curves[seed][baseline]) for seed in seeds)
        ranges = tuple(self.ranges[seed] for seed in seeds)
        gaps = [gap(a, b, span) for (a, b), span in zip(curves, ranges, strict=True)]
        return Pairs(tuple(float(g.mean()) for g in gaps), tuple(float(g[-1]) for g in gaps), curves, ranges)

    def areas(self) -> dict[str, float]:
        """Return the mean of each strategy's curve over the ranges of the seeds that all of them have, if any."""
        seeds = [seed for seed in self.ranges if self.curves[seed].keys() >= set(self.names)]
        return {name: float(np.mean([self._area(name, seed) for seed in seeds])) for name in self.names if seeds}

    def _area(self, name: str, seed: int) -> float:
        return float(np.mean(ap_between(self.curves[seed][name], np.linspace(*self.ranges[seed], GRID))))


def _begun(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """Return the curves with a purchase; all of them where there is none yet."""
    return {name: curve for name, curve in curves.items() if len(curve.cost) > 1} or dict(curves)
