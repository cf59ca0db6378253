"""The curves of a comparison as a figure that a notebook shows."""

from functools import partial
from typing import Any

from alloop.report.curve import draw
from alloop.report.style import png
from alloop.results.compare import Comparison
from alloop.results.names import Metric


def plot(comparison: Comparison, metric: Metric | None = None) -> Any:
    """Return a matplotlib figure of a metric against what was paid: for each strategy its mean and 95 % interval.

    A notebook shows it where it is the last value of a cell; `savefig` writes it.

    Args:
        comparison: what `compare_runs` returned.
        metric: what to draw; the metric of the comparison by default.

    Raises:
        KeyError: the runs did not measure the metric.
    """
    figure = draw(comparison, metric or comparison.metric)
    figure._repr_png_ = partial(png, figure)
    return figure
