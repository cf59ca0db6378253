"""The penalty matrix: which strategy beats which."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import HtmlTable, PageData, Panel


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    matrix = data.comparison.penalty_matrix
    if len(matrix) < 2:
        return
    names = list(matrix)
    numbers = [f"{number}" for number in range(1, len(names) + 1)]
    rows = [
        [f"{number} {name}", *("" if other == name else "yes" if matrix[name][other] else "·" for other in names)]
        for number, name in zip(numbers, names, strict=True)
    ]
    yield {"table": HtmlTable(["beats", *numbers], rows, tooltips=dict(zip(numbers, names, strict=True)))}


PANEL = Panel(
    "Who beats whom",
    _sections,
    """\
{{ table }}
<p class="muted">“yes” where the test of this pair alone finds the row better than the column; not corrected for the
number of pairs.</p>""",
)
