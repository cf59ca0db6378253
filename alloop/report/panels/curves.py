"""The curves of the metric of the verdicts, and of one other metric."""

from collections.abc import Iterator
from typing import Any

from alloop.report.curve import draw
from alloop.report.panel import PageData, Panel, drawing
from alloop.results.names import Metric, metric_title


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    first = data.comparison.metric
    second: Metric = "ap50" if first == "ap" else "ap"
    for metric in (first, second):
        picture = drawing(data.curve if metric == first else draw(data.comparison, metric), metric)
        yield {"metric": metric_title(metric), "drawing": picture, "explained": metric == first}


PANEL = Panel(
    "{{ metric }} against {{ unit }} paid",
    _sections,
    """\
<figure>{{ drawing }}</figure>
{% if explained %}<p class="muted">Lines are means over seeds. Bands are 95 % intervals of the mean (Student&rsquo;s t)
and are drawn from three seeds on and for at most twelve strategies; of two seeds each curve is drawn thin. What was
paid is what the ledger charged.</p>{% endif %}""",
    width="half",
)
