"""The course of a semi-supervised training: how right the pseudo-labels were, class weights and thresholds."""

import json
from typing import Any

import numpy as np

from alloop.report.curve import INK, svg
from alloop.runs import Run


def has_course(run: Run) -> bool:
    """Whether a teacher had a say in the last round of a run."""
    return bool(run.rounds and run.rounds[-1].course)


def course_of(run: Run) -> dict[str, Any]:
    """What the page shows of the last round of a run: a drawing over the epochs, a table of the last one."""
    record, names = run.rounds[-1], json.loads(run.facts["classes"])
    last = record.course[-1]
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
        "drawing": svg(_draw(record.course, names), f"course-{run.name}"),
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
                axes.plot(steps, [record[key][k] for record in course], color=shades[k], linewidth=1.2)
                axes.annotate(
                    name,
                    (steps[-1], course[-1][key][k]),
                    color=INK,
                    fontsize=6,
                    xytext=(2, 0),
                    textcoords="offset points",
                )
        axes.set_ylabel({"pseudo": "pseudo-boxes", "class_weights": "class weight"}.get(key, "threshold"), color=INK)
        axes.tick_params(colors=INK)
        for side, spine in axes.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(INK)
    axes.set_xlabel("step", color=INK)
    return figure
