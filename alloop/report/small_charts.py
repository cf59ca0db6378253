"""Many small charts of one scale in one drawing, as SVG; every line says its figures at the pointer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from alloop.report.numbers import amount
from alloop.report.style import Style

Points = Sequence[tuple[float, float]]
COLUMNS = 4
WIDTH, HEIGHT = 200.0, 150.0  # of a chart with its labels
LEFT, RIGHT, TOP, BOTTOM = 34.0, 8.0, 20.0, 20.0  # around the axes of a chart
LEGEND_LINE, LETTER, SAMPLE = 18.0, 6.6, 34.0  # height of a line of the legend; width of a letter; of a line in it
SMALLEST, LARGEST = 0.75, 1.25  # times this size on a page; on a narrower screen it scrolls
LONGEST_TITLE = 28  # letters
DASHES = {"-": "none", "--": "5 2.5", ":": "1.5 2"}

_TEXT = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" fill="currentColor">{}</text>')
_RULE = Markup(
    '<path d="M{:.1f} {:.1f}H{:.1f}" stroke="currentColor" stroke-opacity="{}" stroke-width="0.8" fill="none"/>'
)
_LINE = Markup(
    '<g stroke="{}" fill="{}"><title>{}</title>'
    '<path d="M{}" fill="none" stroke-width="1.6" stroke-dasharray="{}"/>{}</g>'
)
_DOT = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="1.9" stroke="none"/>')
_DRAWING = Markup(
    '<svg xmlns="http://www.w3.org/2000/svg" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" '
    'style="min-width: {3:.0f}px; max-width: {4:.0f}px" '
    "font-family=\"'DejaVu Sans', Verdana, Arial, sans-serif\">{2}</svg>"
)


@dataclass(frozen=True, slots=True)
class SmallChart:
    """One chart.

    Attributes:
        title: what it shows.
        lines: the points of each line, by the name of its style.
    """

    title: str
    lines: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class Scale:
    """The scale that all charts of a drawing share: x from `low` to `high`, y from 0 to `top`, and the labels."""

    low: float
    high: float
    top: float
    step: float

    @classmethod
    def of(cls, charts: Sequence[SmallChart]) -> "Scale":
        """Return the scale in which all points have room."""
        points = [point for chart in charts for line in chart.lines.values() for point in line]
        xs = [x for x, _ in points]
        most = max((y for _, y in points), default=0.0) or 1.0
        step = _round_step(most / 3)
        low, high = min(xs, default=0.0), max(xs, default=1.0)
        return cls(low, high if high > low else low + 1, step * math.ceil(most / step - 1e-9), step)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies inside a chart."""
        across = LEFT + (x - self.low) / (self.high - self.low) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - y / self.top * (HEIGHT - TOP - BOTTOM)


def small_charts(charts: Sequence[SmallChart], styles: Mapping[str, Style]) -> Markup:
    """Return the drawing: the charts in rows of four, and below them the legend."""
    scale, columns = Scale.of(charts), min(COLUMNS, len(charts))
    width = WIDTH * max(2, columns)
    rows = -(-len(charts) // columns)
    placed = Markup().join(
        Markup('<g transform="translate({:.0f} {:.0f})">{}</g>').format(
            k % columns * WIDTH, k // columns * HEIGHT, _chart(chart, scale, styles)
        )
        for k, chart in enumerate(charts)
    )
    shown = [name for name in styles if any(name in chart.lines for chart in charts)]
    legend, height = _legend({name: styles[name] for name in shown}, width, rows * HEIGHT)
    return _DRAWING.format(width, height, placed + legend, width * SMALLEST, width * LARGEST)


def _chart(chart: SmallChart, scale: Scale, styles: Mapping[str, Style]) -> Markup:
    title = chart.title if len(chart.title) <= LONGEST_TITLE else f"{chart.title[: LONGEST_TITLE - 1]}…"
    parts = [_TEXT.format(LEFT, TOP - 8, "start", 11, title)]
    for k in range(round(scale.top / scale.step) + 1):
        left, y = scale.at(scale.low, k * scale.step)
        parts += [
            _RULE.format(left, y, WIDTH - RIGHT, 0.15 if k else 0.8),
            _TEXT.format(left - 4, y + 3, "end", 9, f"{k * scale.step:.3g}"),
        ]
    for x, anchor in ((scale.low, "start"), (scale.high, "end")):
        parts.append(_TEXT.format(scale.at(x, 0)[0], HEIGHT - BOTTOM + 12, anchor, 9, amount(x)))
    parts += [_line(name, points, scale, styles[name]) for name, points in chart.lines.items() if points]
    return Markup().join(parts)


def _line(name: str, points: Points, scale: Scale, style: Style) -> Markup:
    places = [scale.at(*point) for point in points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    figures = ", ".join(f"{y:.3f} at {amount(x)}" for x, y in points)
    dots = Markup().join(_DOT.format(*place) for place in places)
    return _LINE.format(style.colour, style.colour, f"{name}: {figures}", path, DASHES[style.dash], dots)


def _legend(styles: Mapping[str, Style], width: float, top: float) -> tuple[Markup, float]:
    """Return the names beside samples of their lines, in columns, and the height of the drawing."""
    widest = max(len(name) for name in styles) * LETTER + SAMPLE + 16
    columns = max(1, int(width // widest))
    parts = []
    for k, (name, style) in enumerate(styles.items()):
        x, y = k % columns * widest + 8, top + LEGEND_LINE * (k // columns + 1)
        places = ((x, y - 4), (x + SAMPLE - 10, y - 4))
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        dots = _DOT.format(*places[1])
        parts += [
            _LINE.format(style.colour, style.colour, name, path, DASHES[style.dash], dots),
            _TEXT.format(x + SAMPLE, y, "start", 11, name),
        ]
    return Markup().join(parts), top + LEGEND_LINE * (-(-len(styles) // columns) + 0.7)


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below a number."""
    power: float = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))
