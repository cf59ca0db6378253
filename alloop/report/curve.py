"""Curves over what was paid, as SVG for the page or PNG for a README."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from alloop.budget.prices import BOXES
from alloop.report.text import counted
from alloop.results.compare import GRID, Comparison
from alloop.results.names import Metric
from alloop.results.runs import Run
from alloop.results.statistics import t_interval

# Okabe and Ito's colours, told apart by colour-blind readers; random is gray, markers and dashes differ as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":")
INK = "#010203"  # stands for the text colour of the page, which follows light and dark
MOST_BANDS = 12  # strategies with an interval around their line; beyond, nobody can tell the bands apart
_NAMES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}

Curve = tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]


@dataclass(frozen=True, slots=True)
class Style:
    """How the lines of one strategy look."""

    colour: str
    marker: str
    dash: str

    @classmethod
    def of(cls, number: int, name: str) -> "Style":
        """Of the strategy that is drawn as the so many-th beside random."""
        if name == "random":
            return cls("#7f7f7f", "o", "-")
        return cls(COLOURS[number % 8], MARKERS[(number + 1 + 3 * (number // 8)) % 8], DASHES[number // 8 % 3])


def draw(comparison: Comparison, metric: Metric) -> Any:
    """A matplotlib figure of AP: one line a strategy, mean over seeds, with its 95 % interval."""
    figure, axes, _ = _axes(comparison, f"{_NAMES[metric]} on the test split")
    _lines(axes, comparison, lambda run: run.curve(metric), bands=True)
    if comparison.cost == BOXES and len(comparison.runs) == 1:
        _predicted(axes, comparison.runs[0], metric)
    full = [run.curve(metric)[1][-1] for run in comparison.runs if run.full_label and len(run.curve(metric)[1])]
    if full:
        axes.axhline(float(np.mean(full)), linestyle=(0, (6, 2)), linewidth=1.2, color=INK, label="all labels")
    _legend(figure, len(axes.get_legend_handles_labels()[1]))
    return figure


def _predicted(axes: Any, run: Run, metric: Metric) -> None:
    """Where each round of a single run was expected to be when its images were chosen."""
    known = [
        (expected, value)
        for expected, record in zip(run.predicted_boxes, run.rounds, strict=True)
        if expected is not None and (value := record.metrics[metric]) is not None
    ]
    if known:
        axes.plot(*zip(*known, strict=True), "o", mfc="none", mec=INK, label="boxes as predicted")


def draw_boxes_per_image(comparison: Comparison) -> Any:
    """A matplotlib figure of the boxes that an image bought had, by round, mean over seeds."""
    figure, axes, names = _axes(comparison, "boxes per image bought")
    axes.set_xlabel("round that trained on them first (0: the seed set)", color=INK)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    _lines(axes, comparison, _boxes_per_image, bands=False)
    _legend(figure, len(names))
    return figure


def _boxes_per_image(run: Run) -> Curve:
    """Of a run that is priced by anything, over its rounds."""
    charged = run.charged[: len(run.rounds)]
    return np.array([c.round for c in charged], dtype=float), np.array([c.boxes / max(1, c.images) for c in charged])


def _axes(comparison: Comparison, label: str) -> tuple[Any, Any, list[str]]:
    from matplotlib.figure import Figure  # noqa: PLC0415

    names = _strategies(comparison)
    figure = Figure(figsize=(6.4, 3.9 + 0.2 * ((len(names) + 2) // 3)), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(f"{counted(comparison.cost)} paid", color=INK)
    axes.set_ylabel(label, color=INK)
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.grid(visible=True, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes, names


def _legend(figure: Any, lines: int) -> None:
    if lines:
        figure.legend(loc="outside lower center", ncols=min(3, lines), frameon=False, labelcolor=INK)


def _strategies(comparison: Comparison) -> list[str]:
    names = dict.fromkeys(run.strategy for run in comparison.runs if run.rounds and not run.full_label)
    return sorted(names, key=lambda name: name != "random")


def _lines(axes: Any, comparison: Comparison, curve: Callable[[Run], Curve], *, bands: bool) -> None:
    names = _strategies(comparison)
    for number, name in enumerate(names):
        members = [run for run in comparison.runs if run.strategy == name and len(curve(run)[0])]
        if not members:
            continue
        style, curves = Style.of(number - 1, name), [curve(run) for run in members]
        if bands and len(names) <= MOST_BANDS:
            _interval(axes, curves, style)
        length = min(len(x) for x, _ in curves)
        mean_x = np.mean([x[:length] for x, _ in curves], axis=0)
        mean_y = np.mean([y[:length] for _, y in curves], axis=0)
        label = f"{name} (uses labels)" if any(run.label_using for run in members) else name
        look = {"color": style.colour, "marker": style.marker, "linestyle": style.dash}
        axes.plot(mean_x, mean_y, **look, linewidth=1.8, markersize=5, label=label)


def _interval(axes: Any, curves: Sequence[Curve], style: Style) -> None:
    """A band from three seeds on, where all of them have a curve; two seeds are drawn as they are."""
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if len(curves) < 3 or low >= high:
        for x, y in curves if len(curves) > 1 else ():
            axes.plot(x, y, color=style.colour, linewidth=0.8, alpha=0.35)
        return
    grid = np.linspace(low, high, GRID)
    values = np.array([np.interp(grid, x, y) for x, y in curves])
    bounds = np.array([interval for column in values.T if (interval := t_interval(column.tolist())[0])])
    axes.fill_between(grid, bounds[:, 0], bounds[:, 1], color=style.colour, alpha=0.13, linewidth=0)


def svg(figure: Any, name: str) -> str:
    """SVG whose text follows the page's colour; the same for the same figure and name."""
    import matplotlib as mpl  # noqa: PLC0415

    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": f"alloop-{name}", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue().replace(INK, "currentColor")
    return text[text.index("<svg") :]


def curve_png(comparison: Comparison, metric: Metric) -> bytes:
    """PNG on white."""
    buffer = io.BytesIO()
    draw(comparison, metric).savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
