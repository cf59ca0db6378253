"""The losses along the trainings: of each round, and the terms of the last one."""

from collections.abc import Iterator
from typing import Any

from alloop.report.losses import draw_losses, draw_terms
from alloop.report.panel import PageData, Panel, drawing
from alloop.results.losses import Losses, kept_losses


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    groups: dict[str, list[Losses]] = {}
    for run in data.runs:
        if kept := kept_losses(run):
            groups.setdefault(run.strategy, []).extend(kept)
    if not groups:
        return
    several, picture = len(data.runs) > 1, drawing(draw_losses(groups), "losses")
    width = "full" if several else "half"
    yield {"what": "loss of each round", "drawing": picture, "several": several, "width": width}
    if not several:
        (last,) = (members[-1] for members in groups.values())
        title = f"terms of the loss in round {last.round}"
        yield {"what": title, "drawing": drawing(draw_terms(last), "loss terms"), "several": False}


PANEL = Panel(
    "Training: {{ what }}",
    _sections,
    """\
<figure>{{ drawing }}</figure>
<p class="muted">{% if several %}Each line is one round under one seed. {% endif %}The peak of the first steps may leave
the drawing. Every point is a mean over some steps. <code>losses/</code> in the folder of a run has them as CSV, with
each term and the learning rate.</p>""",
    width="half",
)
