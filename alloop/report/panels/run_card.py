"""Versions, hardware, data and config of the first run."""

from collections.abc import Iterator
from typing import Any

from alloop.ledger.split_images import count_test_images
from alloop.ledger.store import read_ledger
from alloop.report.panel import Cell, HtmlTable, PageData, Panel
from alloop.results.kept_detections import recorded_detections
from alloop.results.runs import Run

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
    run = (data.runs or data.comparison.runs)[0]
    values = run.facts.rows()
    facts = {"run": run.name, "pool": _pool(run), "test split": _test_split(run), **{k: values[k] for k in _FACTS}}
    rows: list[list[str | Cell]] = [[name, Cell(text, css="wide")] for name, text in facts.items()]
    yield {"table": HtmlTable((), rows, striped=False), "run": run.name, "config": run.facts.config}


def _pool(run: Run) -> str:
    boxes = run.facts.pool_class_boxes
    return f"{run.pool_images} images{'' if boxes is None else f', {sum(boxes)} {run.unit}'}"


def _test_split(run: Run) -> str:
    """Return the number of test images, and of their boxes where the run kept what its detections were matched with."""
    with read_ledger(run.folder) as ledger:
        images = count_test_images(ledger)
    kept = recorded_detections(run, run.rounds[-1].round) if run.rounds else None
    boxes = "" if kept is None else f", {len(kept.truth_images)} boxes that count"
    return "not recorded" if images is None else f"{images} images{boxes}"


PANEL = Panel(
    "Run card",
    _sections,
    """\
{{ table }}
<h3>Config of {{ run }}</h3>
<pre>{{ config }}</pre>""",
)
