"""How drawings look: colours, markers and axes, and a figure as SVG or PNG."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from alloop.report.hints import numbered, with_hints

# Colours of Okabe and Ito, which colour-blind readers can tell apart; markers and dashes differ as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", ":")
GRAY = "#7f7f7f"  # of random, the baseline
ZOOMED = "The axis does not begin at 0."
NEAR_ZERO = 0.25  # share of an axis below which its lower end becomes 0, since little room is lost
MARGINS = (0.8, 0.12, 0.55, 0.3)  # inches on the left, on the right, below and above the axes of a figure
INK = "#010203"  # replaced in the page by its text colour, which follows light and dark mode


@dataclass(frozen=True, slots=True)
class Style:
    """The colour, marker and dash of the lines of one strategy."""

    colour: str
    marker: str
    dash: str

    @classmethod
    def of(cls, number: int, name: str) -> "Style":
        """Return the style of a strategy; `number` counts the strategies besides random from 0."""
        if name == "random":
            return cls(GRAY, MARKERS[0], DASHES[0])
        lap = number // len(COLOURS)
        marker = MARKERS[(number + 1 + 3 * lap) % len(MARKERS)]
        return cls(COLOURS[number % len(COLOURS)], marker, DASHES[lap % len(DASHES)])


def strategy_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return the style of each strategy of a page; the strategies besides random count from 0 in their order."""
    others = [name for name in dict.fromkeys(names) if name != "random"]
    return {name: Style.of(number, name) for number, name in enumerate(others)} | {"random": Style.of(0, "random")}


def new_figure(width: float, height: float) -> Any:
    """Return an empty matplotlib figure; sizes are in inches."""
    from matplotlib.figure import Figure  # noqa: PLC0415  slow to import

    return Figure(figsize=(width, height), layout="constrained")


def place_axes(figure: Any, axes: Any, *, below: float) -> None:
    """Let axes fill a figure but for the labels, and add inches below those.

    The margins are fixed, since a layout that is fitted to the texts draws everything twice.
    """
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + below)
    left, right, bottom, top = MARGINS
    size = (width - left - right, height - bottom - top)
    axes.set_position((left / width, (bottom + below) / (height + below), size[0] / width, size[1] / (height + below)))


def style_axes(axes: Any, *, grid: bool = True) -> None:
    """Draw axes in ink, without the upper and the right border."""
    axes.tick_params(colors=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    if grid:
        axes.grid(visible=True, alpha=0.25, linewidth=0.6)
        axes.set_axisbelow(True)


def finish_y_axis(axes: Any) -> None:
    """End the y axis of quantities that are never negative at 0, or write above it that it does not begin there."""
    low, high = axes.get_ylim()
    if low < NEAR_ZERO * high:
        axes.set_ylim(0, high)
    else:
        axes.set_title(ZOOMED, loc="left", fontsize=9, color=INK)


_FONT: dict[str, Any] = {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"]}


def svg(figure: Any, name: str) -> str:
    """Return a figure as SVG whose text follows the colour of the page; the same for the same figure and name."""
    import matplotlib as mpl  # noqa: PLC0415

    buffer, no_metadata = io.StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": f"alloop-{name}", **_FONT}
    hints = numbered(figure, name)
    with mpl.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    text = with_hints(buffer.getvalue().replace(INK, "currentColor"), hints)
    return text[text.index("<svg") :]


def png(figure: Any) -> bytes:
    """Return a figure as PNG on white."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
