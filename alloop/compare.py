"""Strategies against random on AP against boxes paid: curves, differences with intervals, verdicts.

Curves are interpolated on the range of boxes that both runs of a pair cover; pairs are matched by
seed. The difference of a pair is the mean gap of the two curves over that range. Over several seeds
it has an interval at 95 % and a p-value, which Holm's method corrects for the number of strategies;
the verdict is inconclusive when the interval contains zero or the corrected p-value passes 5 %.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from alloop.derived import saving
from alloop.errors import ConfigError
from alloop.ledger import RoundRecord, read_ledger, run_folders
from alloop.statistics import LEVEL, Test, detectable, holm, significance, t_interval

Metric = Literal["ap", "ap50", "ap75"]
GRID = 101  # points of the common box range


@dataclass(frozen=True, slots=True)
class Run:
    """One finished or unfinished run, as its ledger tells it."""

    name: str
    strategy: str
    random_seed: int
    label_using: bool
    full_label: bool
    rounds: tuple[RoundRecord, ...]
    facts: dict[str, str]
    pool_images: int

    def curve(self, metric: Metric) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and AP of the rounds that have one."""
        points = [(r.boxes, value) for r in self.rounds if (value := r.metrics[metric]) is not None]
        return np.array([b for b, _ in points], dtype=np.float64), np.array([a for _, a in points], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Versus:
    """A strategy against random: mean difference in `metric` at equal boxes, over seeds."""

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
    """Everything `compare` shows."""

    runs: tuple[Run, ...]
    versus: tuple[Versus, ...]
    penalty_matrix: dict[str, dict[str, float]]
    metric: Metric
    test: Test = "t"
    areas: dict[str, float] = field(default_factory=dict)


def find_runs(folders: Iterable[Path]) -> list[Run]:
    """All runs in the given folders, studies included, by strategy and seed.

    A strategy that was run with several settings appears once for each, named with its parameters.

    Raises:
        ConfigError: a folder without a run, or the same strategy, setting and seed twice.
    """
    runs = _told_apart([read_run(path) for folder in folders for path in run_folders(folder)])
    return sorted(runs, key=lambda run: (run.full_label, run.strategy != "random", run.strategy, run.random_seed))


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs of one strategy under several settings get names of their own; twins are refused."""
    settings: dict[str, set[str]] = {}
    for run in runs:
        settings.setdefault(run.strategy, set()).add(_setting(run))
    named: dict[tuple[str, int], Run] = {}
    for run in runs:
        several = len(settings[run.strategy]) > 1 and not run.full_label
        name = f"{run.strategy} ({_setting(run)})" if several else run.strategy
        twin = named.get((name, run.random_seed))
        if twin is not None:
            msg = f"{twin.name} and {run.name}: both are {name} under seed {run.random_seed}; give one of them"
            raise ConfigError(msg)
        named[name, run.random_seed] = replace(run, strategy=name)
    return list(named.values())


def _setting(run: Run) -> str:
    parameters = [f"{key}={value}" for key, value in _config_of(run).get("strategy", {}).items() if key != "name"]
    return ", ".join(parameters) or "defaults"


def _config_of(run: Run) -> dict[str, Any]:
    return _parsed(run.facts.get("config", "{}"))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(text)
    return tree


def read_run(folder: Path) -> Run:
    """One run from its ledger."""
    with read_ledger(folder) as ledger:
        facts, rounds, pool = ledger.facts(), ledger.rounds(), len(ledger.image_hashes())
        first = len([c for c in ledger.charges() if c.round == 0])
    strategy = facts.get("strategy", "unknown")
    full = pool > 0 and first == pool
    return Run(
        name=folder.name,
        strategy="full_label" if full else strategy,
        random_seed=int(facts.get("random_seed", 0)),
        label_using=facts.get("label_using") == "true",
        full_label=full,
        rounds=tuple(rounds),
        facts=facts,
        pool_images=pool,
    )


def refuse_unlike(runs: Sequence[Run]) -> None:
    """Only runs on the same data, recipe and seed sets can be compared.

    Raises:
        ConfigError: naming the two runs and the key that differs.
    """
    fair = [run for run in runs if not run.full_label]
    for run in fair[1:]:
        first = fair[0]
        for key, before, now in (("data", first.facts.get("data"), run.facts.get("data")), *_recipes(first, run)):
            if before != now:
                values = f"{_short(before)} and {_short(now)}"
                msg = f"{first.name} and {run.name} cannot be compared: {key} differs ({values})"
                raise ConfigError(msg)
    by_seed: dict[int, Run] = {}
    for run in fair:
        twin = by_seed.setdefault(run.random_seed, run)
        if twin.facts.get("seed_set_sha256") != run.facts.get("seed_set_sha256"):
            msg = f"{twin.name} and {run.name} cannot be compared: their seed sets differ under seed {run.random_seed}"
            raise ConfigError(msg)


def _recipes(a: Run, b: Run) -> Iterable[tuple[str, Any, Any]]:
    first, second = _config_of(a), _config_of(b)
    for block in ("detector", "training", "loop"):
        for key in sorted(
            {*first.get(block, {}), *second.get(block, {})} - {"checkpoint_seconds", "cache_gib", "rounds"}
        ):
            yield f"{block}.{key}", first.get(block, {}).get(key), second.get(block, {}).get(key)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}…"


def compare_runs(folders: Iterable[Path], metric: Metric = "ap", test: Test = "t") -> Comparison:
    """Compare every strategy with random.

    Args:
        folders: of runs and studies.
        metric: what the curves show.
        test: `t`, or `permutation` of signs or `wilcoxon`, both with bootstrap intervals.

    Raises:
        ConfigError: no runs, or runs that cannot be compared.
    """
    runs = find_runs(folders)
    refuse_unlike(runs)
    fair = [run for run in runs if not run.full_label and len(run.curve(metric)[0])]
    names = list(dict.fromkeys(run.strategy for run in fair))
    alone = [v for name in names if name != "random" and (v := against_random(fair, name, metric, test))]
    versus = [_corrected(v, p) for v, p in zip(alone, holm([v.p_value for v in alone]), strict=True)]
    matrix = penalty_matrix(fair, names, metric)
    return Comparison(tuple(runs), tuple(versus), matrix, metric, test, areas(fair, names, metric))


def _corrected(versus: Versus, p_holm: float | None) -> Versus:
    """A verdict stands only if it holds for all comparisons together."""
    holds = p_holm is not None and p_holm < 1 - LEVEL
    return replace(versus, p_holm=p_holm, verdict=versus.verdict if holds else "inconclusive")


def areas(runs: Sequence[Run], names: Sequence[str], metric: Metric) -> dict[str, float]:
    """Area under each strategy's mean curve by the width of the boxes that all of them cover: their mean AP there."""
    curves = {name: mean_curve(runs, name, metric) for name in names}
    low = max((float(x[0]) for x, _ in curves.values()), default=0.0)
    high = min((float(x[-1]) for x, _ in curves.values()), default=-1.0)
    if low > high:
        return {}
    grid = np.linspace(low, high, GRID)
    return {name: float(np.mean(np.interp(grid, x, y))) for name, (x, y) in curves.items()}


def gap(a: Run, b: Run, metric: Metric) -> float | None:
    """Mean of a's curve minus b's over the boxes that both cover; None where they share no range.

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
    """The gaps of all seeds that both strategies have."""
    of = {(run.strategy, run.random_seed): run for run in runs}
    seeds = sorted({seed for name, seed in of if name == a} & {seed for name, seed in of if name == b})
    gaps = [gap(of[a, seed], of[b, seed], metric) for seed in seeds]
    return [value for value in gaps if value is not None]


def against_random(runs: Sequence[Run], strategy: str, metric: Metric, test: Test = "t") -> Versus | None:
    """Difference, interval, p-value, verdict and saving of one strategy by itself; None without a common seed."""
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
    """Boxes and AP averaged over the seeds, round by round, over the rounds that all seeds have."""
    curves = [run.curve(metric) for run in runs if run.strategy == strategy]
    length = min(len(x) for x, _ in curves)
    return np.mean([x[:length] for x, _ in curves], axis=0), np.mean([y[:length] for _, y in curves], axis=0)


def saving_against_random(runs: Sequence[Run], strategy: str, metric: Metric) -> float | None:
    """Share of boxes saved at the best AP of random's mean curve; None if it is not reached."""
    other = mean_curve(runs, "random", metric)
    return saving(*mean_curve(runs, strategy, metric), *other, target=float(other[1].max()))


def penalty_matrix(runs: Sequence[Run], names: Sequence[str], metric: Metric) -> dict[str, dict[str, float]]:
    """Entry [a][b] is 1 where a beats b clearly over the seeds (interval above zero), else 0."""
    matrix: dict[str, dict[str, float]] = {}
    for a in names:
        matrix[a] = {}
        for b in names:
            interval = t_interval(paired_gaps(runs, a, b, metric))[0] if a != b else None
            matrix[a][b] = float(interval is not None and interval[0] > 0)
    return matrix
