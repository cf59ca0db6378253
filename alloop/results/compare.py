"""Strategies against random: curves, differences with intervals, and verdicts, at an equal cost.

Curves are interpolated on the range that both runs of a pair cover; pairs are matched by seed. The
difference of a pair is the mean gap of the two curves over that range. Over several seeds it has an
interval at 95 % and a p-value, which Holm's method corrects for the number of strategies. The verdict
is inconclusive when the interval contains zero, when the corrected p-value exceeds 5 %, or when the
interval lies within the replicate noise: the largest gap between a run and a replicate of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from alloop.budget.prices import BOXES, CostModel
from alloop.results.curves import saving
from alloop.results.names import Metric, Test
from alloop.results.runs import Run, find_runs, refuse_unlike
from alloop.results.statistics import LEVEL, detectable, holm, interval_of, significance

GRID = 101  # number of points on the common range


@dataclass(frozen=True, slots=True)
class Versus:
    """A strategy against random.

    Attributes:
        strategy: its name.
        metric: the metric that the difference is in.
        seeds: number of seeds that both strategies have.
        difference: mean over the seeds of the gap between the two curves, at equal cost.
        interval: 95 % interval of the difference; None for a single seed.
        p_value: of a difference of 0, for this comparison alone.
        verdict: `better`, `worse` or `inconclusive`.
        saving: share of cost saved at random's best figure; None where it is not reached.
        p_holm: the p-value after Holm's correction for all comparisons together.
        detectable: the smallest true difference that is detected with a power of 80 %.
    """

    strategy: str
    metric: str
    seeds: int
    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    verdict: str
    saving: float | None
    p_holm: float | None = None
    detectable: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that `alloop compare` shows.

    Attributes:
        runs: all runs but the replicates.
        versus: one comparison with random for each other strategy.
        penalty_matrix: entry [a][b] is 1 where a is clearly better than b, else 0.
        metric: the metric of the curves.
        test: the significance test.
        areas: mean of each strategy's curve over the cost that all strategies cover.
        cost: what the curves are drawn against.
        replicates: runs that repeat another run.
        replicate_noise: the largest gap between a run and a replicate of it; None without replicates.
    """

    runs: tuple[Run, ...]
    versus: tuple[Versus, ...]
    penalty_matrix: dict[str, dict[str, float]]
    metric: Metric
    test: Test = "t"
    areas: dict[str, float] = field(default_factory=dict)
    cost: CostModel = BOXES
    replicates: tuple[Run, ...] = ()
    replicate_noise: float | None = None


def compare_runs(
    folders: str | Path | Iterable[str | Path], metric: Metric = "ap", test: Test = "t", cost: CostModel = BOXES
) -> Comparison:
    """Compare every strategy with random.

    Args:
        folders: folders of runs and studies, or one such folder.
        metric: the metric of the curves.
        test: `t`, or `permutation` of signs or `wilcoxon`, both with bootstrap intervals.
        cost: what the curves are drawn against.

    Raises:
        ConfigError: no runs, or runs that cannot be compared.
    """
    paths = [folders] if isinstance(folders, str | Path) else folders
    runs = find_runs([Path(path) for path in paths], cost)
    refuse_unlike(runs)
    return compared(runs, metric, test, cost)


def compared(runs: Sequence[Run], metric: Metric, test: Test = "t", cost: CostModel = BOXES) -> Comparison:
    """Compare runs that were read already; their own cost models are replaced by `cost`."""
    priced = [replace(run, cost=cost) for run in runs]
    first = [run for run in priced if not run.replicate]
    replicates = [run for run in priced if run.replicate]
    budgeted = [run for run in first if not run.full_label and len(run.curve(metric)[0])]
    names = list(dict.fromkeys(run.strategy for run in budgeted))
    noise = replicate_noise(first, replicates, metric)
    results = [against_random(budgeted, name, metric, test) for name in names if name != "random"]
    uncorrected = [versus for versus in results if versus is not None]
    p_values = holm([versus.p_value for versus in uncorrected])
    corrected = [_corrected(versus, p, noise) for versus, p in zip(uncorrected, p_values, strict=True)]
    return Comparison(
        tuple(first),
        tuple(corrected),
        penalty_matrix(budgeted, names, metric, test),
        metric,
        test,
        areas(budgeted, names, metric),
        cost,
        tuple(replicates),
        noise,
    )


def flips(one: Comparison, other: Comparison) -> list[tuple[Versus, Versus]]:
    """Return the pairs of one strategy whose verdict depends on how cost is counted."""
    by_name = {versus.strategy: versus for versus in other.versus}
    pairs = [(versus, by_name[versus.strategy]) for versus in one.versus if versus.strategy in by_name]
    return [(a, b) for a, b in pairs if a.verdict != b.verdict]


def replicate_noise(runs: Sequence[Run], replicates: Sequence[Run], metric: Metric) -> float | None:
    """Return the largest gap between a run and a replicate of it; None without replicates."""
    by_key = {(run.strategy, run.random_seed): run for run in runs}
    gaps = []
    for replicate in replicates:
        run = by_key.get((replicate.strategy, replicate.random_seed))
        value = gap(run, replicate, metric) if run else None
        if value is not None:
            gaps.append(abs(value))
    return max(gaps, default=None)


def _corrected(versus: Versus, p_holm: float | None, noise: float | None) -> Versus:
    """Keep a verdict only if it holds for all comparisons together and exceeds the replicate noise."""
    significant = p_holm is not None and p_holm < 1 - LEVEL
    within_noise = noise is not None and versus.interval is not None and max(map(abs, versus.interval)) <= noise
    holds = significant and not within_noise
    return replace(versus, p_holm=p_holm, verdict=versus.verdict if holds else "inconclusive")


def areas(runs: Sequence[Run], names: Sequence[str], metric: Metric) -> dict[str, float]:
    """Return the mean of each strategy's mean curve over the cost that all of them cover, if there is any."""
    curves = {name: mean_curve(runs, name, metric) for name in names}
    low = max((float(x[0]) for x, _ in curves.values()), default=0.0)
    high = min((float(x[-1]) for x, _ in curves.values()), default=-1.0)
    if low > high:
        return {}
    grid = np.linspace(low, high, GRID)
    return {name: float(np.mean(np.interp(grid, x, y))) for name, (x, y) in curves.items()}


def gap(a: Run, b: Run, metric: Metric) -> float | None:
    """Return the mean of a's curve minus b's over the cost that both cover; None where they share no range.

    A range of one point (round 0 alone) gives the difference at that point.
    """
    (xa, ya), (xb, yb) = a.curve(metric), b.curve(metric)
    if not len(xa) or not len(xb):
        return None
    low, high = max(xa[0], xb[0]), min(xa[-1], xb[-1])
    if low > high:
        return None
    grid = np.linspace(low, high, GRID)
    return float(np.mean(np.interp(grid, xa, ya) - np.interp(grid, xb, yb)))


def paired_gaps(runs: Sequence[Run], a: str, b: str, metric: Metric) -> list[float]:
    """Return the gaps under all seeds that both strategies have."""
    by_key = {(run.strategy, run.random_seed): run for run in runs}
    seeds = sorted({seed for name, seed in by_key if name == a} & {seed for name, seed in by_key if name == b})
    gaps = [gap(by_key[a, seed], by_key[b, seed], metric) for seed in seeds]
    return [value for value in gaps if value is not None]


def against_random(runs: Sequence[Run], strategy: str, metric: Metric, test: Test = "t") -> Versus | None:
    """Compare one strategy with random, without regard to the others; return None without a common seed."""
    gaps = paired_gaps(runs, strategy, "random", metric)
    if not gaps:
        return None
    interval, p_value = significance(gaps, test)
    verdict = "inconclusive"
    if interval is not None and not interval[0] <= 0 <= interval[1]:
        verdict = "better" if interval[0] > 0 else "worse"
    return Versus(
        strategy,
        metric,
        len(gaps),
        float(np.mean(gaps)),
        interval,
        p_value,
        verdict,
        saving_against_random(runs, strategy, metric),
        detectable=detectable(gaps),
    )


def mean_curve(runs: Sequence[Run], strategy: str, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
    """Return cost and AP averaged over the seeds for each round that all seeds have."""
    curves = [run.curve(metric) for run in runs if run.strategy == strategy]
    length = min(len(x) for x, _ in curves)
    return np.mean([x[:length] for x, _ in curves], axis=0), np.mean([y[:length] for _, y in curves], axis=0)


def saving_against_random(runs: Sequence[Run], strategy: str, metric: Metric) -> float | None:
    """Return the share of cost saved at the best AP of random's mean curve; None if it is not reached."""
    other = mean_curve(runs, "random", metric)
    return saving(*mean_curve(runs, strategy, metric), *other, target=float(other[1].max()))


def penalty_matrix(
    runs: Sequence[Run], names: Sequence[str], metric: Metric, test: Test = "t"
) -> dict[str, dict[str, float]]:
    """Return a matrix whose entry [a][b] is 1 where a's interval against b lies above zero, else 0."""
    matrix: dict[str, dict[str, float]] = {}
    for a in names:
        matrix[a] = {}
        for b in names:
            interval = interval_of(paired_gaps(runs, a, b, metric), test) if a != b else None
            matrix[a][b] = float(interval is not None and interval[0] > 0)
    return matrix
