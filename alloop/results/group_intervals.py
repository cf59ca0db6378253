"""Intervals of AP over the groups of the test split: how much AP depends on which videos, sites or patients are in it.

Images of one group are alike, so whole groups are drawn with replacement, not images (the cluster bootstrap: Davison
and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8). All runs are measured on the same draws, so
what two runs have in common cancels in their difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from alloop.errors import ConfigError, DamagedFileError
from alloop.evaluation.matching import IOU_THRESHOLDS
from alloop.evaluation.resampled_ap import resampled_ap
from alloop.loop.round_files import detections_path
from alloop.randomness import rng
from alloop.results.compare import Comparison
from alloop.results.gaps import Curve, Range, distinct, gap
from alloop.results.kept_detections import kept_detections, refuse_other_test_images
from alloop.results.names import Metric
from alloop.results.runs import Run
from alloop.results.statistics import Interval, corrected_interval

FEW_GROUPS = 10
RESAMPLES = 2_000
THRESHOLDS: dict[Metric, Sequence[int]] = {"ap": range(IOU_THRESHOLDS), "ap50": [0], "ap75": [5]}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure on the test split, and its 95 % interval over the test groups."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class StrategyRound:
    """Means over the seeds of a strategy after one round, and the mean of the metric with its interval."""

    strategy: str
    round: int
    seeds: int
    images: float
    boxes: float
    paid: float
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class GroupIntervals:
    """What `alloop compare --over-groups` shows.

    Attributes:
        metric: the metric of all figures.
        groups: number of groups in the test split.
        images: number of images in it.
        resamples: number of draws with a true box; a draw without one has no AP and is left out.
        rounds: one entry for each strategy and round.
        differences: by strategy, the mean over the seeds of the gap between its curve and random's at equal cost.
        of_runs: for each run of the comparison, the metric after each of its rounds.
    """

    metric: Metric
    groups: int
    images: int
    resamples: int
    rounds: tuple[StrategyRound, ...]
    differences: dict[str, Estimate]
    of_runs: tuple[tuple[Estimate, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """The metric of a run: `values[k, 0]` after round k on the test split itself, and then on each resample."""

    run: Run
    values: Float64[np.ndarray, "k r"]

    @property
    def curve(self) -> Curve:
        """The curve on the test split and on each resample."""
        return distinct(np.array(self.run.paid), self.values.T)

    @property
    def end(self) -> float:
        """What was paid before the last round; a run that has not bought yet ends before the range of its seed."""
        return self.run.paid[-1] if self.run.rounds else -1.0


def group_intervals(comparison: Comparison, resamples: int = RESAMPLES) -> GroupIntervals:
    """Return intervals over the test groups for the runs of a comparison.

    Args:
        comparison: the runs, the metric and the cost.
        resamples: how often the groups are drawn; the draws are the same at every call.

    Raises:
        ConfigError: a run without kept detections or groups, or runs with different test images.
        DamagedFileError: a file that differs from its record, or does not give the AP that was recorded.
    """
    begun = [run for run in comparison.runs if run.rounds]
    if not begun:
        msg = f"--over-groups: {comparison.runs[0].name} has no finished round yet"
        raise ConfigError(msg)
    first = kept_detections(begun[0], begun[0].rounds[0].round)
    for run in begun:
        refuse_other_test_images(begun[0], first, run, kept_detections(run, run.rounds[0].round))
    if comparison.metric not in THRESHOLDS:
        msg = f"--over-groups: {comparison.metric} of resampled images is not computed; take {', '.join(THRESHOLDS)}"
        raise ConfigError(msg)
    copies, groups = _copies(first.groups, resamples), len(set(first.groups))
    measured = _usable([_measured(run, copies, comparison.metric) for run in comparison.runs])
    return GroupIntervals(
        comparison.metric,
        groups,
        len(first.image_ids),
        max(one.values.shape[1] for one in measured) - 1,
        tuple(_strategy_round(members, groups) for members in _by_round(measured)),
        _differences(measured, comparison.ranges, groups),
        tuple(tuple(_ap(values, groups) for values in one.values) for one in measured),
    )


def _copies(groups: Sequence[str], resamples: int) -> Int64[np.ndarray, "r m"]:
    """Return how often each image is taken: once in the first row, then as often as its group was drawn."""
    names, rows = np.unique(np.array(groups), return_inverse=True)
    drawn = rng(0, "test groups").multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    return np.concatenate([np.ones((1, len(names)), dtype=np.int64), drawn])[:, rows]


def _measured(run: Run, copies: Int64[np.ndarray, "r m"], metric: Metric) -> _Measured:
    """Return the metric after each round; refuse detections that do not give what was recorded."""
    values = np.zeros((len(run.rounds), len(copies)))
    for row, record in enumerate(run.rounds):
        values[row] = resampled_ap(kept_detections(run, record.round), copies, THRESHOLDS[metric])
        recorded = record.metrics[metric]
        if not np.isclose(values[row, 0], np.nan if recorded is None else recorded, rtol=0, atol=1e-9, equal_nan=True):
            path = run.folder / detections_path(record.round)
            msg = (
                f"{path}: its detections give {metric} {values[row, 0]:.6f}, and run.db has {recorded}; start a new run"
            )
            raise DamagedFileError(msg)
    return _Measured(run, values)


def _usable(measured: Sequence[_Measured]) -> list[_Measured]:
    """Leave out the resamples without a true box, which are the same for all runs."""
    usable = ~np.any([np.isnan(one.values).any(axis=0) for one in measured], axis=0)
    if usable.sum() < 2 or not usable[0]:
        msg = f"--over-groups: the test images of {measured[0].run.name} have no boxes, so there is no AP"
        raise ConfigError(msg)
    return [_Measured(one.run, one.values[:, usable]) for one in measured]


def _difference(values: Float64[np.ndarray, " r"], groups: int) -> Estimate:
    return Estimate(float(values[0]), corrected_interval(float(values[0]), values[1:], groups))


def _ap(values: Float64[np.ndarray, " r"], groups: int) -> Estimate:
    low, high = _difference(values, groups).interval
    return Estimate(float(values[0]), (max(low, 0.0), min(high, 1.0)))  # no AP lies outside


def _by_round(measured: Sequence[_Measured]) -> list[list[tuple[_Measured, int]]]:
    """Return for each strategy and round the runs that have it, with its row in each."""
    members: dict[tuple[str, int], list[tuple[_Measured, int]]] = {}
    for one in measured:
        for row, record in enumerate(one.run.rounds):
            members.setdefault((one.run.strategy, record.round), []).append((one, row))
    return list(members.values())


def _strategy_round(members: Sequence[tuple[_Measured, int]], groups: int) -> StrategyRound:
    records = [one.run.rounds[row] for one, row in members]
    return StrategyRound(
        members[0][0].run.strategy,
        records[0].round,
        len(members),
        float(np.mean([record.images for record in records])),
        float(np.mean([record.boxes for record in records])),
        float(np.mean([one.run.paid[row] for one, row in members])),
        _ap(np.mean([one.values[row] for one, row in members], axis=0), groups),
    )


def _differences(measured: Sequence[_Measured], ranges: Mapping[int, Range], groups: int) -> dict[str, Estimate]:
    """Return the differences of `alloop.results.compare`, with intervals over the groups."""
    budgeted = {(one.run.strategy, one.run.random_seed): one for one in measured if not one.run.full_label}
    gaps: dict[str, list[np.ndarray]] = {}
    for (strategy, seed), one in budgeted.items():
        baseline = budgeted.get(("random", seed))
        within = ranges.get(seed)
        if strategy != "random" and baseline and within and min(one.end, baseline.end) >= within.high:
            gaps.setdefault(strategy, []).append(gap(one.curve, baseline.curve, within).mean(axis=-1))
    return {strategy: _difference(np.mean(of_seeds, axis=0), groups) for strategy, of_seeds in gaps.items()}
