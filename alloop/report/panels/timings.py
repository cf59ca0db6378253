"""The time that each step of a run took."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import HtmlTable, PageData, Panel


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    steps = list(dict.fromkeys(step for run in data.runs for record in run.rounds for step in record.timings))
    rows = []
    for name in dict.fromkeys(run.strategy for run in data.runs):
        members = [run for run in data.runs if run.strategy == name]
        totals = [sum(r.timings.get(step, 0.0) for run in members for r in run.rounds) for step in steps]
        rows.append([name, *(f"{total / len(members):.1f} s" for total in totals)])
    yield {"table": HtmlTable(["strategy", *steps], rows)}


PANEL = Panel(
    "Time of each step",
    _sections,
    """\
{{ table }}
<p class="muted">Mean time of one run, over its seeds; a step whose result another run of the study had produced
already takes no time.</p>""",
)
