"""The diagnostics of the queries of each strategy's first run."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import HtmlTable, PageData, Panel, number
from alloop.results.runs import Run


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    tables = [(run.name, _table(run)) for run in data.first_runs if any(r.diagnostics for r in run.rounds)]
    if tables:
        yield {"tables": tables}


def _table(run: Run) -> HtmlTable:
    records = [record for record in run.rounds if record.diagnostics]
    columns = list(dict.fromkeys(name for record in records for name in record.diagnostics))
    rows = [[f"{r.round}", *(number(r.diagnostics.get(name), ".4g") for name in columns)] for r in records]
    return HtmlTable(["after round", *columns], rows)


PANEL = Panel(
    "Diagnostics of the queries",
    _sections,
    "{% for name, table in tables %}<h3>{{ name }}</h3>{{ table }}{% endfor %}",
)
