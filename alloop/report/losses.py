"""Losses along trainings, as matplotlib figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alloop.report.style import COLOURS, INK, new_figure, style_axes
from alloop.results.losses import Losses

MOST_POINTS, ALL_POINTS = 100, 24_000  # of one line; of all lines of a drawing together
COLUMNS = 3  # small drawings beside each other
SHOWN = 0.98  # share of the values that a drawing shows whole; the first steps are far above all others

Line = tuple[Sequence[float], Sequence[float]]  # finished steps and loss


def draw_losses(groups: Mapping[str, Sequence[Losses]]) -> Any:
    """Draw the total loss of each training over its steps: a small drawing for each group, a shade for each round."""
    columns = min(COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    figure = new_figure(6.4 if columns == 1 else 3.1 * columns, 3.4 if columns == 1 else 0.5 + 1.9 * rows)
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    rounds = 1 + max(losses.round for members in groups.values() for losses in members)
    points = _points(sum(map(len, groups.values())))
    for axes, (name, members) in zip(panels, groups.items(), strict=False):
        for losses in members:
            line = {"color": _shade(losses.round, rounds), "linewidth": 1.4 if len(members) <= 12 else 0.7}
            axes.plot(*thinned((losses.steps, losses.total), points), **line)
        _finish(axes, [losses.total for losses in members])
        axes.set_title(name, loc="left", fontsize=9, color=INK)
        axes.set_xlabel("step", color=INK)
    for axes in panels[len(groups) :]:
        axes.set_visible(False)
    _name_rounds(figure, rounds)
    return figure


def draw_terms(losses: Losses) -> Any:
    """Draw the total loss of one training and its terms."""
    figure = new_figure(6.4, 3.4)
    axes = figure.subplots()
    lines = {"total": losses.total, **losses.terms} if len(losses.terms) > 1 else {"total": losses.total}
    for k, (name, values) in enumerate(lines.items()):
        known = [(step, value) for step, value in zip(losses.steps, values, strict=True) if value is not None]
        colour = INK if k == 0 else COLOURS[(k - 1) % len(COLOURS)]
        steps, numbers = zip(*known, strict=True)
        axes.plot(*thinned((steps, numbers), MOST_POINTS), color=colour, linewidth=1.4, label=name)
    _finish(axes, [losses.total])
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("loss", color=INK)
    if len(lines) > 1:
        figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=9)
    return figure


def thinned(line: Line, most: int) -> Line:
    """Return a line thinned to a number of points; each is the mean of its neighbours, and the last step stays."""
    steps, values = line
    parts = np.array_split(np.arange(len(steps)), min(most, len(steps)))
    return [steps[part[-1]] for part in parts], [float(np.mean([values[k] for k in part])) for part in parts]


def _points(lines: int) -> int:
    return max(2, min(MOST_POINTS, ALL_POINTS // max(1, lines)))


def _shade(round_: int, rounds: int) -> Any:
    """Return the colour of a round, visible on white and on black."""
    from matplotlib import colormaps  # noqa: PLC0415

    return colormaps["viridis"](0.85 - 0.6 * round_ / max(1, rounds - 1))


def _name_rounds(figure: Any, rounds: int) -> None:
    """Name the shade of the first and of the last round, and of those between where they are few."""
    if rounds < 2:
        return
    from matplotlib.lines import Line2D  # noqa: PLC0415

    named = range(rounds) if rounds <= 8 else (0, rounds // 2, rounds - 1)
    handles = [Line2D([], [], color=_shade(k, rounds), linewidth=1.6, label=f"round {k}") for k in named]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=9)


def _finish(axes: Any, lines: Sequence[Sequence[float]]) -> None:
    """Style the axes; the loss axis begins at 0 where no loss is negative, and cuts the peak of the first steps."""
    style_axes(axes)
    values = np.concatenate([np.asarray(line, dtype=float) for line in lines if len(line)] or [np.ones(1)])
    top = float(np.quantile(values, SHOWN))
    low = min(0.0, float(values.min()))
    if top > low:
        axes.set_ylim(low, low + 1.08 * (top - low))
