"""The learning curve, AP against boxes paid, as SVG for the page or PNG for a README."""

import io

import numpy as np

from alloop.compare import Comparison
from alloop.runs import Metric, Run

# Okabe and Ito's colours, told apart by colour-blind readers; random is gray, markers differ as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_INK = "#010203"  # stands for the text colour of the page, which follows light and dark
_NAMES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


def draw(comparison: Comparison, metric: Metric) -> object:
    """A matplotlib figure: one line a strategy, mean over seeds, with every seed as a faint line."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    fair = [run for run in comparison.runs if not run.full_label and len(run.curve(metric)[0])]
    names = list(dict.fromkeys(run.strategy for run in fair))
    for number, name in enumerate(n for n in ("random", *[n for n in names if n != "random"]) if n in names):
        colour = "#7f7f7f" if name == "random" else COLOURS[(number - ("random" in names)) % len(COLOURS)]
        members = [run for run in fair if run.strategy == name]
        _line(axes, members, name, metric, colour, MARKERS[number % len(MARKERS)])
    full = [run.curve(metric)[1][-1] for run in comparison.runs if run.full_label and len(run.curve(metric)[1])]
    if full:
        axes.axhline(float(np.mean(full)), linestyle="--", linewidth=1.2, color=_INK, label="all labels")
    axes.set_xlabel("boxes paid", color=_INK)
    axes.set_ylabel(f"{_NAMES[metric]} on the test split", color=_INK)
    axes.tick_params(colors=_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_INK)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    if names:
        axes.legend(frameon=False, labelcolor=_INK)
    return figure


def _line(axes: object, members: list[Run], name: str, metric: Metric, colour: str, marker: str) -> None:
    curves = [run.curve(metric) for run in members]
    length = min(len(x) for x, _ in curves)
    if len(curves) > 1:
        for x, y in curves:
            axes.plot(x, y, color=colour, linewidth=0.8, alpha=0.3)  # type: ignore[attr-defined]
    mean_x = np.mean([x[:length] for x, _ in curves], axis=0)
    mean_y = np.mean([y[:length] for _, y in curves], axis=0)
    label = f"{name} (uses labels)" if any(run.label_using for run in members) else name
    axes.plot(mean_x, mean_y, color=colour, marker=marker, linewidth=2, markersize=6, label=label)  # type: ignore[attr-defined]


def curve_svg(comparison: Comparison, metric: Metric) -> str:
    """SVG whose text follows the page's colour; deterministic."""
    import matplotlib as mpl  # noqa: PLC0415

    buffer = io.StringIO()
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": f"alloop-{metric}", "font.family": "sans-serif", "font.size": 11}
    ):
        draw(comparison, metric).savefig(buffer, format="svg", transparent=True, metadata={"Date": None})  # type: ignore[attr-defined]
    text = buffer.getvalue().replace(_INK, "currentColor")
    return text[text.index("<svg") :]


def curve_png(comparison: Comparison, metric: Metric) -> bytes:
    """PNG on white."""
    buffer = io.BytesIO()
    draw(comparison, metric).savefig(buffer, format="png", dpi=130, facecolor="white")  # type: ignore[attr-defined]
    return buffer.getvalue()
