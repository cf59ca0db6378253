"""Each strategy against random, counted in two ways."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import UNKNOWN, Cell, HtmlTable, PageData, Panel, number
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
        "detectable",
        "saved",
        "area",
    ]
    rows = [
        [*_cells(versus, comparison.areas.get(versus.strategy)), *_other_cells(versus, otherwise.get(versus.strategy))]
        for versus in comparison.versus
    ]
    yield {"table": HtmlTable([*heads, f"in {data.other_unit}", "verdict"], rows)}


def _cells(versus: Versus, area: float | None) -> list[str | Cell]:
    interval = UNKNOWN if versus.interval is None else "{:+.3f} to {:+.3f}".format(*versus.interval)
    return [
        versus.strategy,
        f"{versus.seeds}",
        f"{versus.difference:+.3f}",
        interval,
        number(versus.p_holm),
        Cell(versus.verdict, css=versus.verdict),
        number(versus.detectable),
        UNKNOWN if versus.saving is None else f"{100 * versus.saving:.0f} %",
        number(area),
    ]


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
<p class="muted">The difference is the mean gap of the two curves over the range that both cover, at equal {{ unit }}
and at equal {{ other_unit }}, in pairs of equal seed; “!” marks where the two ways of counting disagree. “Detectable”
is the smallest true difference that this number of seeds with this spread detects with a power of 80 %. “Saved” is read
at random&rsquo;s best figure; below 0 the strategy needs more than random. “Area” is the mean of the curve over the
range that all strategies cover. “&ndash;” means unknown or never reached.</p>""",
)
