"""AP of objects by size and of each class against what was paid, as means over the seeds."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from alloop.ledger.store import RoundRecord
from alloop.report.curve import styles_of
from alloop.report.small_charts import Points, SmallChart
from alloop.results.class_balance import ClassBalance
from alloop.results.compare import Comparison
from alloop.results.runs import Run

SIZES = {"ap_small": "small (below 32² pixels)", "ap_medium": "medium (to 96² pixels)", "ap_large": "large"}
MOST_CLASSES = 12  # that have a chart; the table of the page has all

Value = Callable[[RoundRecord], float | None]


def size_charts(comparison: Comparison) -> list[SmallChart]:
    """Return a chart for each size of COCO that the test split has objects of."""
    return _charts({title: _lines(comparison, _of_size(key)) for key, title in SIZES.items()})


def class_charts(comparison: Comparison, balance: ClassBalance) -> list[SmallChart]:
    """Return charts of the classes whose AP changes most, in the order of the classes' numbers of boxes."""
    order = [balance.names[k] for k in np.argsort(-balance.known, kind="stable")]
    charts = _charts({name: _lines(comparison, _of_class(name)) for name in order})
    most = {chart.title for chart in sorted(charts, key=_change, reverse=True)[:MOST_CLASSES]}
    return [chart for chart in charts if chart.title in most]


def _of_size(key: str) -> Value:
    return lambda record: record.metrics.get(key)


def _of_class(name: str) -> Value:
    return lambda record: record.per_class.get(name)


def _change(chart: SmallChart) -> float:
    """Return the largest change of a line from its first to its last point."""
    return max(abs(points[-1][1] - points[0][1]) for points in chart.lines.values())


def _charts(lines: Mapping[str, Mapping[str, Points]]) -> list[SmallChart]:
    return [SmallChart(title, of_title) for title, of_title in lines.items() if of_title]


def _lines(comparison: Comparison, value: Value) -> dict[str, Points]:
    """Return the mean line of each strategy; those with a single point are left out."""
    lines = {
        name: _mean_line([run for run in comparison.runs if run.strategy == name and run.rounds], value)
        for name in styles_of(comparison)
    }
    return {name: points for name, points in lines.items() if len(points) > 1}


def _mean_line(runs: Sequence[Run], value: Value) -> Points:
    """Return the mean cost and value of each round that all runs have, over the runs that know the value."""
    points = []
    for k in range(min(len(run.rounds) for run in runs)):
        known = [(run.paid[k], v) for run in runs if (v := value(run.rounds[k])) is not None]
        if known:
            points.append((float(np.mean([x for x, _ in known])), float(np.mean([y for _, y in known]))))
    return points
