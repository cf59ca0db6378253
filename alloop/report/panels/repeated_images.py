"""Images that splits share, and near duplicates that were paid for or saved."""

from collections.abc import Iterator
from typing import Any

from alloop.data.leaks import NEAR
from alloop.ledger.facts import SplitLeaks
from alloop.report.panel import Cell, HtmlTable, PageData, Panel
from alloop.results.near_duplicates import near_duplicates

_LEAKS = ("split", "also in", "images", "same bytes", "look alike", "not decoded", "such as")
_DUPLICATES = ("run", "images paid", "near duplicates paid", "their boxes", "near duplicates saved", "their boxes")
_NAMES = {"train": "pool", "test": "test", "reference": "reference"}


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    leaks = data.runs[0].facts.leaks if data.runs else None
    found = [(run, near_duplicates(run.folder)) for run in data.runs if run.facts.leaks is not None]
    rows = [
        [
            run.name,
            f"{run.rounds[-1].images}",
            f"{counts.paid_images}",
            f"{counts.paid_boxes}",
            f"{counts.saved_images}",
            f"{counts.saved_boxes:.0f}",
        ]
        for run, counts in found
        if counts is not None
    ]
    if leaks is None or not rows:
        return
    yield {
        "leaks": HtmlTable(_LEAKS, [_leak_row(one) for one in leaks]),
        "duplicates": HtmlTable(_DUPLICATES, rows),
        "bits": NEAR,
    }


def _leak_row(leaks: SplitLeaks) -> list[str | Cell]:
    examples = [*leaks.identical_pairs[:1], *(pair[:2] for pair in leaks.near_pairs[:1])]
    counts = (leaks.images, leaks.identical, leaks.near, leaks.undecoded)
    listed = "; ".join(" and ".join(pair) for pair in examples) or "none"
    return [_NAMES[leaks.split], _NAMES[leaks.of], *(f"{count}" for count in counts), Cell(listed, css="wide")]


PANEL = Panel(
    "Images that occur twice",
    _sections,
    """\
{{ leaks }}
<p class="muted">Images of the splits when the first run began. Images look alike whose perceptual hashes differ in at
most {{ bits }} of 64 bits. An image of the pool in the test split makes AP measure what was memorized.</p>
{{ duplicates }}
<p class="muted">A near duplicate looks like an image that was labeled before it. Those saved were passed over by
<code>loop.min_distance</code> and would have been paid without it; an image counts once.</p>""",
)
