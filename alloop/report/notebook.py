"""The curves of a comparison as an object that a notebook shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alloop.files import atomic_write
from alloop.report.curve import draw
from alloop.report.style import png
from alloop.results.compare import Comparison
from alloop.results.names import Metric


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart. A notebook shows it where it is the last value of a cell.

    Attributes:
        figure: the matplotlib figure; change it before the chart is shown.
    """

    figure: Any

    def save(self, path: str | Path) -> None:
        """Write the chart as a PNG file, all or nothing."""
        atomic_write(Path(path), self._repr_png_())

    def _repr_png_(self) -> bytes:
        """Return the chart as PNG on white, as notebooks ask for it."""
        return png(self.figure)


def chart(comparison: Comparison, metric: Metric | None = None) -> Chart:
    """Draw a metric against what was paid: for each strategy the mean over its seeds, with its 95 % interval.

    Args:
        comparison: what `compare_runs` returned.
        metric: what to draw; the metric of the comparison by default.

    Raises:
        KeyError: the runs did not measure the metric.
    """
    return Chart(draw(comparison, metric or comparison.metric))
