"""The curves of the metric of the verdicts, and of one other metric."""

from collections.abc import Iterator
from typing import Any

from alloop.report.curve import draw
from alloop.report.panel import PageData, Panel, capital, drawing
from alloop.report.summary import outlook
from alloop.results.names import Metric, metric_title


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    first = data.comparison.metric
    measured = data.comparison.runs[0].measured
    second: Metric = measured[1] if first == measured[0] else measured[0]
    foreseen = bool(outlook(data.comparison))
    for metric in (first, second):
        picture = drawing(data.curve if metric == first else draw(data.comparison, metric), metric)
        notes = {"explained": metric == first, "noise": bool(data.comparison.replicate_noise), "single": foreseen}
        yield {"metric": capital(metric_title(metric)), "drawing": picture, **notes}


PANEL = Panel(
    "{{ metric }} against {{ unit }} paid",
    _sections,
    """\
<figure>{{ drawing }}</figure>
{% if explained %}<p class="muted">Lines are means over seeds. Bands are 95 % intervals of the mean (Student&rsquo;s t)
and are drawn from three seeds on and for at most twelve strategies; of two seeds each curve is drawn thin. What was
paid is what the ledger charged.
{% if noise %}The hatched band shows by how much a run and its replicate differ at most.{% endif %}
{% if single %}The dashed line goes on as the rounds so far suggest, with a 95 % interval; a single training differs
from it by chance.{% endif %}</p>{% endif %}""",
    width="half",
)
