"""The figures of every round."""

from collections.abc import Iterator
from typing import Any

from alloop.report.numbers import UNKNOWN, mean_rows
from alloop.report.panel import HtmlTable, PageData, Panel, number
from alloop.results.names import columns, metric_title

_HEADS = ("strategy", "round", "seeds", "images")


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    measured = columns(data.comparison.metric)
    means = mean_rows(data.comparison.runs, measured)
    metrics = [*measured, *(["ap_at_100"] if any("ap_at_100" in row for row in means) else [])]
    rows = [
        [
            f"{row['strategy']}{' (uses labels)' if row['label_using'] else ''}",
            *(f"{row[key]:.0f}" for key in ("round", "seeds", "images", "boxes")),
            f"{row['boxes'] / row['images']:.2f}" if row["images"] else UNKNOWN,
            *(number(row.get(key, row.get("ap"))) for key in metrics),
        ]
        for row in means
    ]
    unit = data.comparison.runs[0].unit
    yield {"table": HtmlTable([*_HEADS, unit, f"{unit} per image", *map(metric_title, metrics)], rows)}


PANEL = Panel("Every round", _sections, "{{ table }}")
