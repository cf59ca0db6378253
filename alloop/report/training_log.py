"""The log of a semi-supervised training as a drawing: pseudo-labels, class weights and thresholds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from alloop.report.style import INK, finish_y_axis, new_figure, style_axes

MOST_NAMES = 14  # class names beside the lines of a drawing; the table of the page has all
_LABELS = {"pseudo": "pseudo-boxes", "class_weights": "class weight", "thresholds": "threshold"}


def precision_recall(log: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Return precision and recall of the pseudo-boxes of each epoch.

    A value is NaN where there is no pseudo-box, or no true box.
    """
    counts = np.array([[sum(record[key]) for key in ("pseudo", "right", "true")] for record in log], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (counts[:, 1] / counts[:, 0]).tolist(), (counts[:, 1] / counts[:, 2]).tolist()


def draw_training_log(log: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Draw the quantities that the log has of each epoch against the training step, one plot above the other."""
    keys = [key for key in _LABELS if key in log[-1]]
    figure = new_figure(6.4, 1.9 * len(keys) + 0.5)
    panels = np.atleast_1d(figure.subplots(len(keys), sharex=True))
    for axes, key in zip(panels, keys, strict=True):
        if key == "pseudo":
            _draw_precision_recall(axes, log)
        else:
            _draw_classes(axes, log, key, names)
        axes.set_ylabel(_LABELS[key], color=INK)
        style_axes(axes, grid=False)
    panels[-1].set_xlabel("step", color=INK)
    return figure


def _draw_precision_recall(axes: Any, log: Sequence[Mapping[str, Any]]) -> None:
    steps = [record["step"] for record in log]
    precision, recall = precision_recall(log)
    axes.plot(steps, precision, "-", color=INK, linewidth=1.4, label="precision")
    axes.plot(steps, recall, "--", color=INK, linewidth=1.4, label="recall")
    axes.set_ylim(0, 1.02)
    axes.legend(frameon=False, labelcolor=INK, ncols=2, fontsize=8)


def _draw_classes(axes: Any, log: Sequence[Mapping[str, Any]], key: str, names: Sequence[str]) -> None:
    """Draw one line for each class."""
    from matplotlib import colormaps  # noqa: PLC0415

    steps = [record["step"] for record in log]
    shades = colormaps["viridis"](np.linspace(0.25, 0.85, len(names)))  # visible on white and on black
    for k, name in enumerate(names):
        axes.plot(steps, [record[key][k] for record in log], color=shades[k], linewidth=1.2, label=name)
    finish_y_axis(axes)
    _label_lines(axes)


def _label_lines(axes: Any) -> None:
    """Write the name of each line beside its end, with a gap between names; of many lines only the outer ones."""
    lines = axes.get_lines()[::-1]  # reversed, so that of equal lines the first has the upper name
    lines.sort(key=lambda line: line.get_ydata()[-1])
    if len(lines) > MOST_NAMES:
        lines = [*lines[: MOST_NAMES // 2], *lines[-MOST_NAMES // 2 :]]
    low, high = axes.get_ylim()
    ends = np.array([line.get_ydata()[-1] for line in lines], dtype=float)
    for line, end, height in zip(lines, ends, apart(ends, 0.075 * (high - low)), strict=True):
        pointer = {"color": line.get_color(), "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            line.get_label(),
            (line.get_xdata()[-1], end),
            xytext=(1.01, height),
            textcoords=axes.get_yaxis_transform(),
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), **pointer},
            color=INK,
            fontsize=7,
            va="center",
        )


def apart(values: Float[np.ndarray, " n"], gap: float) -> Float[np.ndarray, " n"]:
    """Return the positions closest to rising values (least squares) that are at least a gap apart."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415  slow to import

    steps = gap * np.arange(len(values))
    positions: Float[np.ndarray, " n"] = isotonic_regression(values - steps).x + steps
    return positions
