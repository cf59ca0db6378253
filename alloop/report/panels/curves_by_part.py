"""Curves of AP by size and by class."""

from collections.abc import Iterator
from typing import Any

from alloop.report.curve import styles_of
from alloop.report.curves_by_part import MOST_CLASSES, class_charts, size_charts
from alloop.report.panel import PageData, Panel, saved_drawing
from alloop.report.small_charts import small_charts


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    comparison, balance = data.comparison, data.balance
    classes = class_charts(comparison, balance) if balance else []
    others = len(balance.names) - len(classes) if balance else 0
    for what, charts, left_out in (("size", size_charts(comparison), 0), ("class", classes, others)):
        if charts:
            drawing = saved_drawing(small_charts(charts, styles_of(comparison)))
            yield {"what": what, "drawing": drawing, "others": left_out, "shown": len(charts), "most": MOST_CLASSES}


PANEL = Panel(
    "{{ figure }} by {{ what }} against {{ unit }} paid",
    _sections,
    """\
<figure class="wide scroll">{{ drawing }}</figure>
<p class="muted">Means over seeds, all on one scale; the pointer shows the figures of a line.
{% if what == "size" %}Sizes are those of COCO, by the area of the true object in pixels.
{% elif others and shown == most %}\
These are the {{ shown }} classes that change most from the first to the last round, those with the most {{ paid_for }}
first. The other {{ others }} are in the table.
{% else %}Those with the most {{ paid_for }} come first.
{% if others %} For {{ others }} more, {{ figure }} is unknown.{% endif %}{% endif %}</p>""",
)
