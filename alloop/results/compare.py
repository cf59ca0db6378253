"""Strategies against random: curves, differences with intervals, savings and verdicts, at an equal cost.

Pairs of runs are matched by seed. Under each seed all strategies are compared on one range of costs: from where each of
them has bought once to where the first of them ends. The difference of a pair is the mean gap of the two curves on
that range, see `gaps`; so the differences of all strategies can be put in order. Over several seeds a difference has an
interval at 95 % and a p-value, which Holm's method corrects for the number of strategies. The verdict is inconclusive
when the interval contains zero, when the corrected p-value exceeds 5 %, or when the interval lies within the replicate
noise: the largest gap between a run and a replicate of it. Where there is a verdict, `savings` says what it is worth.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np

from alloop.budget.prices import BOXES, IMAGES, CostModel
from alloop.errors import ConfigError
from alloop.results.gaps import Range, common_range, curve_of, gap
from alloop.results.names import Metric, Test
from alloop.results.notebook import comparison_html, rounds_frame
from alloop.results.pairs import CurvesBySeed, Pairs
from alloop.results.runs import Run, find_runs, refuse_unlike
from alloop.results.savings import mean_saving
from alloop.results.statistics import LEVEL, Interval, detectable, holm, interval_of, significance, spread_factors


@dataclass(frozen=True, slots=True)
class Versus:
    """A strategy against random.

    Attributes:
        strategy: its name.
        metric: the metric that the differences are in.
        seeds: number of seeds that both strategies have.
        difference: mean over the seeds of the mean gap between the two curves, at equal cost.
        interval: 95 % interval of the difference; None for a single seed, or seeds without any spread.
        p_value: of a difference of 0, for this comparison alone.
        verdict: `better`, `worse` or `inconclusive`.
        end_difference: mean over the seeds of the gap at the right end of the range.
        end_interval: 95 % interval of that.
        saving: share of the cost saved at the right end, negative where the strategy needs more; None while the verdict
            is inconclusive, since then it would be a figure of chance.
        saving_interval: 95 % interval of the saving.
        p_holm: the p-value after Holm's correction for all comparisons together.
        detectable: the smallest true difference that gets a verdict with a probability of 80 %, at the spread of these
            seeds; None where the test cannot give a verdict with so few seeds.
        detectable_interval: the same for the least and the greatest spread that these seeds leave possible (95 %).
    """

    strategy: str
    metric: str
    seeds: int
    difference: float
    interval: Interval | None
    p_value: float | None
    verdict: str
    end_difference: float
    end_interval: Interval | None
    saving: float | None = None
    saving_interval: Interval | None = None
    p_holm: float | None = None
    detectable: float | None = None
    detectable_interval: Interval | None = None


@dataclass(frozen=True)
class Comparison:
    """Everything that `alloop compare` shows.

    Attributes:
        runs: all runs but the replicates.
        versus: one comparison with random for each other strategy.
        metric: the metric of the curves.
        test: the significance test.
        curves: the curves by random seed and strategy, and the costs between which they are compared.
        cost: what the curves are drawn against.
        replicates: runs that repeat another run.
        replicate_noise: the largest gap between a run and a replicate of it; None without replicates.
    """

    runs: tuple[Run, ...]
    versus: tuple[Versus, ...]
    metric: Metric
    test: Test
    curves: CurvesBySeed = field(repr=False)
    cost: CostModel = BOXES
    replicates: tuple[Run, ...] = ()
    replicate_noise: float | None = None

    @property
    def ranges(self) -> Mapping[int, Range]:
        """By random seed, the costs between which its runs are compared."""
        return self.curves.ranges

    @cached_property
    def areas(self) -> dict[str, float]:
        """The mean of each strategy's curve over the ranges, under the seeds that all strategies have."""
        return self.curves.areas()

    @cached_property
    def penalty_matrix(self) -> dict[str, dict[str, float]]:
        """A matrix whose entry [a][b] is 1 where a is clearly better than b, else 0."""
        return penalty_matrix(self.curves, self.test)

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with a row for each round of every run.

        Its columns are run, strategy, random_seed, label_using, round, images, boxes, paid (in the unit of `cost`), and
        all metrics as fractions of 1, missing where unknown.

        Raises:
            ConfigError: pandas, which is optional, is not installed.
        """
        return rounds_frame(self)

    def plot(self, metric: Metric | None = None) -> Any:
        """Return a matplotlib figure of a metric, by default that of the comparison; see `alloop.plot`."""
        import alloop  # noqa: PLC0415  drawing lies above this package, so it is reached by its public name

        return alloop.plot(self, metric)

    def _repr_html_(self) -> str:
        """Return the verdicts and the runs as HTML, as notebooks ask for it."""
        return comparison_html(self)


def compare_runs(
    folders: str | Path | Iterable[str | Path],
    metric: Metric | None = None,
    test: Test = "t",
    cost: CostModel | None = None,
) -> Comparison:
    """Compare every strategy with random.

    Args:
        folders: folders of runs and studies, or one such folder.
        metric: the metric of the curves; None for `ap`, or for `accuracy` of classification.
        test: `t`, or `permutation` of signs or `wilcoxon`, both with bootstrap intervals.
        cost: what the curves are drawn against; None for boxes, or for images of classification.

    Raises:
        ConfigError: no runs, or runs that cannot be compared.
    """
    paths = [folders] if isinstance(folders, str | Path) else folders
    runs = find_runs([Path(path) for path in paths], cost or BOXES)
    refuse_unlike(runs)
    metric = metric or runs[0].measured[0]
    _refuse_unmeasured(runs, metric)
    return compared(runs, metric, test, cost or (IMAGES if runs[0].unit == "labels" else BOXES))


def reported_runs(
    folder: Path, metric: Metric | None = None, test: Test = "t", cost: CostModel | None = None
) -> Comparison:
    """Compare as `compare_runs` does for a report, whose verdicts are about AP50 by default."""
    comparison = compare_runs([folder], metric, test, cost)
    if metric is None and comparison.metric == "ap":
        return compared((*comparison.runs, *comparison.replicates), "ap50", test, comparison.cost)
    return comparison


def _refuse_unmeasured(runs: Sequence[Run], metric: Metric) -> None:
    """Check that all rounds have the metric: a version before it existed did not measure it."""
    for run in runs:
        lacking = next((record for record in run.rounds if metric not in record.metrics), None)
        if lacking is not None:
            known = ", ".join(name for name in get_args(Metric) if name in lacking.metrics)
            msg = (
                f"{run.name}: round {lacking.round} has no {metric}: its version, or its task, does not measure it; "
                f"compare by {known}"
            )
            raise ConfigError(msg)


def compared(runs: Sequence[Run], metric: Metric, test: Test = "t", cost: CostModel = BOXES) -> Comparison:
    """Compare runs that were read already; their own cost models are replaced by `cost`."""
    priced = [replace(run, cost=cost) for run in runs]
    first = [run for run in priced if not run.replicate]
    replicates = [run for run in priced if run.replicate]
    curves = CurvesBySeed.of_runs(first, metric)
    noise = replicate_noise(first, replicates, metric)
    pairs = {name: of for name in curves.names if name != "random" and (of := curves.pairs(name, "random")).gaps}
    versus = [against_random(name, of, metric, test) for name, of in pairs.items()]
    p_values = holm([one.p_value for one in versus])
    comparisons = max(1, sum(p is not None for p in p_values))
    verdicts = [_verdict(one, p, noise) for one, p in zip(versus, p_values, strict=True)]
    concluded = [_concluded(one, comparisons, pairs[one.strategy], test) for one in verdicts]
    return Comparison(tuple(first), tuple(concluded), metric, test, curves, cost, tuple(replicates), noise)


def flips(one: Comparison, other: Comparison) -> list[tuple[Versus, Versus]]:
    """Return the pairs of one strategy whose verdict depends on how cost is counted."""
    by_name = {versus.strategy: versus for versus in other.versus}
    pairs = [(versus, by_name[versus.strategy]) for versus in one.versus if versus.strategy in by_name]
    return [(a, b) for a, b in pairs if a.verdict != b.verdict]


def against_random(strategy: str, pairs: Pairs, metric: Metric, test: Test = "t") -> Versus:
    """Compare one strategy with random, without regard to the others; `pairs` is not empty."""
    interval, p_value = significance(pairs.gaps, test)
    verdict = "inconclusive"
    if interval is not None and not interval[0] <= 0 <= interval[1]:
        verdict = "better" if interval[0] > 0 else "worse"
    return Versus(
        strategy,
        metric,
        len(pairs.gaps),
        float(np.mean(pairs.gaps)),
        interval,
        p_value,
        verdict,
        float(np.mean(pairs.ends)),
        interval_of(pairs.ends, test),
    )


def _verdict(versus: Versus, p_holm: float | None, noise: float | None) -> Versus:
    """Keep a verdict only if it holds for all comparisons together and exceeds the replicate noise."""
    significant = p_holm is not None and p_holm < 1 - LEVEL
    within_noise = noise is not None and versus.interval is not None and max(map(abs, versus.interval)) <= noise
    holds = significant and not within_noise
    return replace(versus, p_holm=p_holm, verdict=versus.verdict if holds else "inconclusive")


def _concluded(versus: Versus, comparisons: int, pairs: Pairs, test: Test) -> Versus:
    """Add what a verdict is worth, and what difference gets one."""
    if versus.verdict != "inconclusive":
        saved = mean_saving(pairs.log_cost_ratios(), test)
        versus = replace(versus, saving=saved.share, saving_interval=saved.interval)
    found = detectable(pairs.gaps, comparisons, test)
    if found is None:
        return versus
    least, greatest = spread_factors(len(pairs.gaps))
    return replace(versus, detectable=found, detectable_interval=(least * found, greatest * found))


def replicate_noise(runs: Sequence[Run], replicates: Sequence[Run], metric: Metric) -> float | None:
    """Return the largest mean gap between a run and a replicate of it; None without replicates."""
    by_key = {(run.strategy, run.random_seed): run for run in runs}
    gaps = []
    for replicate in replicates:
        run = by_key.get((replicate.strategy, replicate.random_seed))
        value = None if run is None else mean_gap(run, replicate, metric)
        if value is not None:
            gaps.append(abs(value))
    return max(gaps, default=None)


def mean_gap(a: Run, b: Run, metric: Metric) -> float | None:
    """Return the mean gap between two runs on the range that both cover; None where there is none."""
    curves = curve_of(a, metric), curve_of(b, metric)
    within = common_range(curves)
    return None if within is None else float(np.mean(gap(*curves, within)))


def mean_curve(runs: Sequence[Run], strategy: str, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Return cost and AP averaged over the seeds for each round that all seeds have."""
    curves = [run.curve(metric) for run in runs if run.strategy == strategy]
    length = min(len(x) for x, _ in curves)
    return np.mean([x[:length] for x, _ in curves], axis=0), np.mean([y[:length] for _, y in curves], axis=0)


def penalty_matrix(curves: CurvesBySeed, test: Test = "t") -> dict[str, dict[str, float]]:
    """Return a matrix whose entry [a][b] is 1 where a is better than b by the test of this pair alone, else 0."""
    matrix = {a: dict.fromkeys(curves.names, 0.0) for a in curves.names}
    for a, b in combinations(curves.names, 2):
        gaps = curves.pairs(a, b).gaps
        matrix[a][b], matrix[b][a] = float(_beats(gaps, test)), float(_beats([-value for value in gaps], test))
    return matrix


def _beats(gaps: Sequence[float], test: Test) -> bool:
    """Return whether gaps are above zero by their interval and by the test."""
    if not gaps or np.mean(gaps) <= 0:
        return False
    interval, p_value = significance(gaps, test)
    return interval is not None and p_value is not None and interval[0] > 0 and p_value < 1 - LEVEL
