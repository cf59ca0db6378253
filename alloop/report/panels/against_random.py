"""Each strategy against random, counted in two ways."""

from collections.abc import Iterator
from typing import Any

from alloop.report.numbers import UNKNOWN
from alloop.report.panel import Cell, HtmlTable, PageData, Panel, number
from alloop.report.text import p_value, range_words
from alloop.results.compare import Versus


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    comparison = data.comparison
    if not comparison.versus:
        return
    otherwise = {versus.strategy: versus for versus in data.other.versus}
    heads = [
        "strategy",
        "seeds",
        f"in {data.unit}",
        "95 % interval",
        "p, Holm",
        "verdict",
        "at the end",
        "95 % interval",
        "saved",
        "95 % interval",
        "detectable",
        "area",
    ]
    rows = [
        [*_cells(versus, comparison.areas.get(versus.strategy)), *_other_cells(versus, otherwise.get(versus.strategy))]
        for versus in comparison.versus
    ]
    table = HtmlTable([*heads, f"in {data.other_unit}", "verdict"], rows)
    yield {"table": table, "range": range_words(comparison)}


def _cells(versus: Versus, area: float | None) -> list[str | Cell]:
    return [
        versus.strategy,
        f"{versus.seeds}",
        f"{versus.difference:+.3f}",
        Cell(_interval(versus.interval, "+.3f"), css="range"),
        UNKNOWN if versus.p_holm is None else p_value(versus.p_holm).removeprefix("= "),
        Cell(versus.verdict, css=versus.verdict),
        f"{versus.end_difference:+.3f}",
        Cell(_interval(versus.end_interval, "+.3f"), css="range"),
        UNKNOWN if versus.saving is None else f"{versus.saving:.0%}",
        Cell(_interval(versus.saving_interval, ".0%"), css="range"),
        number(versus.detectable),
        number(area),
    ]


def _interval(interval: tuple[float, float] | None, form: str) -> str:
    return UNKNOWN if interval is None else f"{interval[0]:{form}} to {interval[1]:{form}}"


def _other_cells(versus: Versus, otherwise: Versus | None) -> list[str | Cell]:
    if otherwise is None:
        return [UNKNOWN, UNKNOWN]
    same = otherwise.verdict == versus.verdict
    verdict = otherwise.verdict if same else Cell(f"{otherwise.verdict} !", css="flip")
    return [f"{otherwise.difference:+.3f}", verdict]


PANEL = Panel(
    "Against random",
    _sections,
    """\
{{ table }}
<p class="muted">The difference is the mean gap of the two curves over {{ range }}, at equal {{ unit }} and at equal
{{ other_unit }}, in pairs of equal seed; “!” marks where the two ways of counting disagree. “At the end” is the gap at
the right end of that range. “Saved” is the share of {{ unit }} that the strategy does not need for the figure that both
reach there; below 0 it needs more than random. It is shown where there is a verdict. “Detectable” is the smallest true
difference that gets a verdict with a probability of 80 %, at the spread of these seeds. “Area” is the mean of the curve
over the range. “&ndash;” means unknown.</p>""",
)
