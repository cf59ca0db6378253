"""Intervals over the test groups as a table, as JSON and as columns of a CSV."""

from dataclasses import asdict
from typing import Any

from alloop.budget.prices import BOXES, CostModel
from alloop.report.numbers import counted, priced_columns
from alloop.results.compare import Comparison
from alloop.results.group_intervals import FEW_GROUPS, Estimate, GroupIntervals, StrategyRound
from alloop.results.names import metric_title
from alloop.tables import Table, figure


def group_blocks(comparison: Comparison, over: GroupIntervals) -> list[str | Table]:
    """Return a table with one row for each strategy and round, and one sentence for each difference from random."""
    title, priced = metric_title(over.metric), priced_columns(comparison)
    rows = [
        [
            entry.strategy,
            *(f"{number:.0f}" for number in (entry.round, entry.seeds, entry.images, entry.boxes)),
            figure(entry.estimate.value),
            *map(figure, entry.estimate.interval),
            *(f"{entry.paid:.6g}" for _ in priced),
        ]
        for entry in over.rounds
    ]
    head = f"{title} with 95 % intervals over {over.groups} test groups"
    return [
        f"{head} ({over.images} images, {over.resamples} resamples)",
        Table(["strategy", "round", "seeds", "images", "boxes", title, "from", "to", *priced], rows),
        "",
        *(difference_sentence(over, strategy, comparison.cost) for strategy in over.differences),
        *few_groups(over),
    ]


def difference_sentence(over: GroupIntervals, strategy: str, cost: CostModel = BOXES) -> str:
    """Return the difference of a strategy from random in words."""
    estimate = over.differences[strategy]
    low, high = estimate.interval
    return (
        f"{strategy} against random at equal {counted(cost)}: {estimate.value:+.3f} {metric_title(over.metric)} "
        f"(95 % interval over {over.groups} test groups {low:+.3f} to {high:+.3f}, same groups for both)"
    )


def few_groups(over: GroupIntervals) -> list[str]:
    """Return a warning where there are too few groups for an interval that can be trusted."""
    if over.groups >= FEW_GROUPS:
        return []
    advice = f"Take at least {FEW_GROUPS}, better 20; docs/verdicts.md says why."
    return [f"warning: {over.groups} test groups are too few; do not trust these intervals. {advice}"]


def groups_json(over: GroupIntervals) -> dict[str, Any]:
    """Return everything as plain values; `interval` has the lower and the upper end."""
    return {
        "metric": over.metric,
        "groups": over.groups,
        "images": over.images,
        "resamples": over.resamples,
        "too_few_groups": over.groups < FEW_GROUPS,
        "rounds": [{**_shown(entry), **asdict(entry.estimate)} for entry in over.rounds],
        "differences": [{"strategy": name, **asdict(estimate)} for name, estimate in over.differences.items()],
    }


def _shown(entry: StrategyRound) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if key != "estimate"}


def groups_columns(over: GroupIntervals) -> dict[str, list[str]]:
    """Return the columns for a CSV with one line for each round of every run, by heading."""
    estimates: list[Estimate] = [estimate for of_run in over.of_runs for estimate in of_run]
    return {
        f"{over.metric}_low": [f"{estimate.interval[0]:.6f}" for estimate in estimates],
        f"{over.metric}_high": [f"{estimate.interval[1]:.6f}" for estimate in estimates],
        "test_groups": [str(over.groups)] * len(estimates),
    }
