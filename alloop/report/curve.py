"""Curves against what was paid, and boxes per image, as matplotlib figures."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from alloop.budget.prices import BOXES
from alloop.report.hints import hint
from alloop.report.numbers import amount, counted
from alloop.report.style import GRAY, INK, Style, finish_y_axis, new_figure, place_axes, strategy_styles, style_axes
from alloop.results.compare import Comparison, mean_curve, replicate_noise
from alloop.results.forecast import BEYOND
from alloop.results.forecasts import forecast_of
from alloop.results.gaps import GRID
from alloop.results.names import Metric, metric_title
from alloop.results.runs import Run
from alloop.results.statistics import t_band

MOST_BANDS = 12  # strategies with a band around their line; among more, readers cannot distinguish the bands

FORECAST_POINTS = 25  # of the line of a forecast
LINE = 0.2  # inches of a line of the legend
WIDTH_IN_LETTERS = 90  # of a drawing, in letters of its legend

Curve = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


def draw(comparison: Comparison, metric: Metric) -> Any:
    """Draw a metric against what was paid: for each strategy the mean over its seeds, with its 95 % interval."""
    figure, axes = _figure(comparison, f"{metric_title(metric)} on the test split")
    title, unit = metric_title(metric), counted(comparison.cost)
    _lines(
        axes,
        comparison,
        lambda run: run.curve(metric),
        lambda x, y: f"{title} {y:.3f} at {amount(x)} {unit}",
        bands=True,
    )
    _noise(axes, comparison, metric)
    if comparison.cost == BOXES and len(comparison.runs) == 1:
        _predicted(axes, comparison.runs[0], metric)
        _forecast(axes, comparison, metric)
    full = [run.curve(metric)[1][-1] for run in comparison.runs if run.full_label and len(run.curve(metric)[1])]
    if full:
        axes.axhline(float(np.mean(full)), linestyle=(0, (6, 2)), linewidth=1.2, color=INK, label="all labels")
    finish_y_axis(axes)
    _legend(figure, axes)
    return figure


def _predicted(axes: Any, run: Run, metric: Metric) -> None:
    """Mark where each round of a single run was predicted to be when its images were chosen."""
    known = [
        (predicted, value)
        for predicted, record in zip(run.predicted_boxes, run.rounds, strict=True)
        if predicted is not None and (value := record.metrics[metric]) is not None
    ]
    if known:
        axes.plot(*zip(*known, strict=True), "o", mfc="none", mec=INK, label="boxes as predicted")


def _noise(axes: Any, comparison: Comparison, metric: Metric) -> None:
    """Draw around random by how much a run and its replicate differ, where there are replicates."""
    noise = replicate_noise(comparison.runs, comparison.replicates, metric)
    if not noise:
        return
    names = list(styles_of(comparison))
    paid, values = mean_curve(comparison.runs, names[0], metric)
    look = {"facecolor": "none", "edgecolor": GRAY, "hatch": "////", "linewidth": 0.0, "alpha": 0.6}
    axes.fill_between(paid, values - noise, values + noise, **look, label=f"{names[0]} ± replicate noise")


def _forecast(axes: Any, comparison: Comparison, metric: Metric) -> None:
    """Draw how the curve of a single run is expected to go on, up to twice the boxes paid, where that can be said."""
    expected = forecast_of(comparison.runs[0], metric)
    if expected is None or expected.curve is None:
        return
    boxes = np.geomspace(expected.curve.paid, BEYOND * expected.curve.paid, FORECAST_POINTS)
    estimates = [expected.curve.ap(float(n)) for n in boxes]
    (style, *_) = styles_of(comparison).values()
    axes.plot(boxes, [one.median for one in estimates], "--", color=style.colour, linewidth=1.2, label="forecast")
    low, high = [one.low for one in estimates], [one.high for one in estimates]
    axes.fill_between(boxes, low, high, color=style.colour, alpha=0.13, linewidth=0)


def draw_boxes_per_image(comparison: Comparison) -> Any:
    """Draw the mean number of boxes per image bought, for each round and strategy."""
    figure, axes = _figure(comparison, "boxes per image bought")
    axes.set_xlabel("round that trained on them first (0: the seed set)", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    _lines(axes, comparison, _boxes_per_image, lambda x, y: f"{y:.2f} boxes per image in round {x:.0f}", bands=False)
    finish_y_axis(axes)
    _legend(figure, axes)
    return figure


def _boxes_per_image(run: Run) -> Curve:
    charged = run.charged[: len(run.rounds)]
    return np.array([c.round for c in charged], dtype=float), np.array([c.boxes / max(1, c.images) for c in charged])


def _figure(comparison: Comparison, label: str) -> tuple[Any, Any]:
    """Return a figure and its axes."""
    figure = new_figure(6.4, 3.7)
    axes = figure.subplots()
    axes.set_xlabel(f"{counted(comparison.cost)} paid", color=INK)
    axes.set_ylabel(label, color=INK)
    style_axes(axes)
    return figure, axes


def _legend(figure: Any, axes: Any) -> None:
    """Make room below the axes for the names of all lines and bands, and write them there."""
    names = axes.get_legend_handles_labels()[1]
    columns = min(_legend_columns(names), max(1, len(names)))
    place_axes(figure, axes, below=LINE * (-(-len(names) // columns) + 1))
    if names:
        figure.legend(loc="lower center", ncols=columns, frameon=False, labelcolor=INK)


def _legend_columns(names: Sequence[str]) -> int:
    """Return how many names fit beside each other below a drawing; each has a piece of its line beside it."""
    longest = max(map(len, names), default=0)
    return min(3, max(1, WIDTH_IN_LETTERS // (longest + 8)))


def styles_of(comparison: Comparison) -> dict[str, Style]:
    """Return the style of each strategy that has a line in the drawings, random first."""
    names = dict.fromkeys(run.strategy for run in comparison.runs if run.rounds and not run.full_label)
    styles = strategy_styles(names)
    return {name: styles[name] for name in sorted(names, key=lambda name: name != "random")}


def _lines(
    axes: Any,
    comparison: Comparison,
    curve: Callable[[Run], Curve],
    words: Callable[[float, float], str],
    *,
    bands: bool,
) -> None:
    """Draw one line for each strategy; the line ends with the seed that has the fewest rounds.

    Args:
        axes: where to draw.
        comparison: the runs.
        curve: returns the curve of a run.
        words: returns what is said of a point of a curve on hover.
        bands: whether to draw the intervals.
    """
    styles = styles_of(comparison)
    for name, style in styles.items():
        members = [run for run in comparison.runs if run.strategy == name and len(curve(run)[0])]
        if not members:
            continue
        curves = [curve(run) for run in members]
        if bands and len(styles) <= MOST_BANDS:
            _interval(axes, curves, style)
        length = min(len(x) for x, _ in curves)
        mean_x = np.mean([x[:length] for x, _ in curves], axis=0)
        mean_y = np.mean([y[:length] for _, y in curves], axis=0)
        label = f"{name} (uses labels)" if any(run.label_using for run in members) else name
        line = {"color": style.colour, "marker": style.marker, "linestyle": style.dash}
        (drawn,) = axes.plot(mean_x, mean_y, **line, linewidth=1.8, markersize=5, label=label)
        seeds = f", mean of {len(members)} seeds" if len(members) > 1 else ""
        hint(drawn, [f"{name}{seeds}: {words(x, y)}" for x, y in zip(mean_x, mean_y, strict=True)])


def _interval(axes: Any, curves: Sequence[Curve], style: Style) -> None:
    """Draw a band where at least three seeds all have a curve; draw the curves of two seeds themselves."""
    low = max(x[0] for x, _ in curves)
    high = min(x[-1] for x, _ in curves)
    if len(curves) < 3 or low >= high:
        for x, y in curves if len(curves) > 1 else ():
            axes.plot(x, y, color=style.colour, linewidth=0.8, alpha=0.35)
        return
    grid = np.linspace(low, high, GRID)
    values = np.array([np.interp(grid, x, y) for x, y in curves])
    band = np.clip(t_band(values), 0.0, 1.0)  # few seeds that differ much have an interval beyond what AP can be
    axes.fill_between(grid, *band, color=style.colour, alpha=0.13, linewidth=0)
