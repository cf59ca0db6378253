"""The course of a semi-supervised training: how right the pseudo-labels were, class weights and thresholds."""

import json
from typing import Any

import numpy as np
from jaxtyping import Float

from alloop.report.curve import INK, svg
from alloop.results.runs import Run

MOST_NAMES = 14  # written beside the lines of a drawing; the table has all


def has_course(run: Run) -> bool:
    """Whether a teacher had a say in the last round of a run."""
    return bool(run.rounds and run.rounds[-1].training_log)


def course_of(run: Run) -> dict[str, Any]:
    """What the page shows of the last round of a run: a drawing over the epochs, a table of the last one."""
    record, names = run.rounds[-1], json.loads(run.facts["classes"])
    last = record.training_log[-1]
    columns: dict[str, list[str]] = {}
    if "class_weights" in last:
        columns["weight"] = [f"{w:.2f}" for w in last["class_weights"]]
    columns["threshold"] = [f"{t:.2f}" for t in last["thresholds"]]
    if "pseudo" in last:
        columns |= {key: [str(count) for count in last[key]] for key in ("pseudo", "right", "true")}
    rows = [(name, [cells[k] for cells in columns.values()]) for k, name in enumerate(names)]
    if "class_weights" in last:
        rows.append(("background", [columns["weight"][-1], *["-"] * (len(columns) - 1)]))
    return {
        "negative": last.get("negative_weights", 0),
        "run": run.name,
        "round": record.round,
        "drawing": svg(_draw(record.training_log, names), f"course-{run.name}"),
        "heads": list(columns),
        "rows": rows,
    }


def precision_recall(course: Any) -> tuple[list[float], list[float]]:
    """Of the pseudo-boxes of each epoch; NaN where there is none, or nothing to find."""
    counts = np.array([[sum(record[key]) for key in ("pseudo", "right", "true")] for record in course], dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return (counts[:, 1] / counts[:, 0]).tolist(), (counts[:, 1] / counts[:, 2]).tolist()


def _draw(course: Any, names: list[str]) -> Any:
    from matplotlib import colormaps  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = [key for key in ("pseudo", "class_weights", "thresholds") if key in course[-1]]
    figure = Figure(figsize=(6.4, 1.9 * len(panels) + 0.5), layout="constrained")
    steps = [record["step"] for record in course]
    for axes, key in zip(np.atleast_1d(figure.subplots(len(panels), sharex=True)), panels, strict=True):
        if key == "pseudo":
            for values, label, dash in zip(precision_recall(course), ("precision", "recall"), ("-", "--"), strict=True):
                axes.plot(steps, values, dash, color=INK, linewidth=1.4, label=label)
            axes.set_ylim(0, 1.02)
            axes.legend(frameon=False, labelcolor=INK, ncols=2, fontsize=8)
        else:
            shades = colormaps["viridis"](np.linspace(0.25, 0.85, len(names)))  # seen on white and on black
            for k, name in enumerate(names):
                axes.plot(steps, [record[key][k] for record in course], color=shades[k], linewidth=1.2, label=name)
            _label(axes)
        axes.set_ylabel({"pseudo": "pseudo-boxes", "class_weights": "class weight"}.get(key, "threshold"), color=INK)
        axes.tick_params(colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
    axes.set_xlabel("step", color=INK)
    return figure


def _label(axes: Any) -> None:
    """Each line's name at its end, moved no more than it takes to read all of them; of many classes the outer ones."""
    lines = axes.get_lines()[::-1]  # of equal ones the first is uppermost
    lines.sort(key=lambda line: line.get_ydata()[-1])
    if len(lines) > MOST_NAMES:
        lines = [*lines[: MOST_NAMES // 2], *lines[-MOST_NAMES // 2 :]]
    low, high = axes.get_ylim()
    ends = np.array([line.get_ydata()[-1] for line in lines], dtype=float)
    for line, end, place in zip(lines, ends, apart(ends, 0.075 * (high - low)), strict=True):
        axes.annotate(
            line.get_label(),
            (line.get_xdata()[-1], end),
            xytext=(1.01, place),
            textcoords=axes.get_yaxis_transform(),
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": line.get_color(),
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            color=INK,
            fontsize=7,
            va="center",
        )


def apart(values: Float[np.ndarray, " n"], gap: float) -> Float[np.ndarray, " n"]:
    """The places nearest to rising values (least squares) of which each is at least a gap beyond the one before."""
    from sklearn.isotonic import isotonic_regression  # noqa: PLC0415

    steps = gap * np.arange(len(values))
    places: Float[np.ndarray, " n"] = isotonic_regression(values - steps) + steps
    return places
