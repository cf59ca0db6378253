"""The answers of people, and whether another round pays."""

from collections.abc import Iterator
from typing import Any

from alloop.ledger.requests import RoundAnswers
from alloop.report.panel import HtmlTable, PageData, Panel
from alloop.results.status import read_status

_HEADS = ("run", "round", "done", "set aside", "left", "boxes", "predicted", "cost", "seconds")
_EDITS = ("accepted", "moved", "deleted", "added")


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    statuses = {run.name: read_status(run.folder) for run in data.runs if run.facts.asks_people}
    rows = [_row(name, answers) for name, status in statuses.items() for answers in status.answers]
    if rows:
        advice = [(name, status.advice()) for name, status in statuses.items()]
        yield {"table": HtmlTable([*_HEADS, *_EDITS], rows), "advice": advice}


def _row(name: str, answers: RoundAnswers) -> list[str]:
    states = [f"{answers.states.get(state, 0)}" for state in ("done", "skipped", "left")]
    seconds = answers.seconds + answers.set_aside_seconds
    amounts = [f"{answers.boxes}", f"{answers.predicted_boxes:.0f}", f"{answers.cost:.2f}", f"{seconds:.0f}"]
    edits = answers.edits
    counts = (edits.accepted, edits.moved, edits.deleted, edits.added)
    return [name, f"{answers.round}", *states, *amounts, *map(str, counts)]


PANEL = Panel(
    "What people answered",
    _sections,
    """\
{{ table }}
<p class="muted">Accepted, moved, deleted and added are counted against the boxes of the detector that people were
shown.</p>
{% for name, text in advice %}<p>{{ name }}: {{ text }}.</p>{% endfor %}""",
)
