"""Versions, hardware, data and config of the first run."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import Cell, HtmlTable, PageData, Panel

_FACTS = (
    "alloop",
    "torch",
    "torchvision",
    "numpy",
    "python",
    "machine",
    "hardware",
    "device",
    "threads",
    "data",
    "config_sha256",
    "command",
)


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    facts = (data.runs or data.comparison.runs)[0].facts
    values = facts.rows()
    rows: list[list[str | Cell]] = [[name, Cell(values[name], css="wide")] for name in _FACTS]
    yield {"table": HtmlTable((), rows, striped=False), "config": facts.config}


PANEL = Panel("Run card", _sections, "{{ table }}\n<pre>{{ config }}</pre>")
