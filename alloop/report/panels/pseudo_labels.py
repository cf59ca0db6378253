"""How many pseudo-labels of a semi-supervised training were correct."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from alloop.report.numbers import UNKNOWN
from alloop.report.panel import HtmlTable, PageData, Panel, drawing
from alloop.report.training_log import draw_training_log


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    for run in data.first_runs:
        record, names = run.rounds[-1], list(run.facts.classes or ())
        if not record.training_log:
            continue
        yield {
            "run": run.name,
            "round": record.round,
            "drawing": drawing(draw_training_log(record.training_log, names), f"course-{run.name}"),
            "table": _table(record.training_log[-1], names),
            "negative": record.training_log[-1].get("negative_weights", 0),
        }


def _table(last: Mapping[str, Any], names: Sequence[str]) -> HtmlTable:
    """Return one row for each class, from the log of the last epoch."""
    columns: dict[str, list[str]] = {}
    if "class_weights" in last:
        columns["weight"] = [f"{weight:.2f}" for weight in last["class_weights"]]
    columns["threshold"] = [f"{threshold:.2f}" for threshold in last["thresholds"]]
    if "pseudo" in last:
        columns |= {key: [f"{count}" for count in last[key]] for key in ("pseudo", "right", "true")}
    rows = [[name, *(cells[k] for cells in columns.values())] for k, name in enumerate(names)]
    if "class_weights" in last:
        rows.append(["background", columns["weight"][-1], *[UNKNOWN] * (len(columns) - 1)])
    return HtmlTable(["class", *columns], rows)


PANEL = Panel(
    "Pseudo-labels of the teacher: {{ run }}, round {{ round }}",
    _sections,
    """\
<figure>{{ drawing }}</figure>
{{ table }}
{% if negative %}<p class="note">{{ negative }} class weights of the direct solution are negative; they are cut to a
third.</p>{% endif %}
<p class="muted">The table is about the last epoch. A pseudo-box is right when it overlaps a true box of its class with
an IoU of at least a half; this is known only in simulation, and nothing is trained on it.</p>""",
)
