"""How many boxes the images of each round had."""

from collections.abc import Iterator
from typing import Any

from alloop.report.curve import draw_boxes_per_image
from alloop.report.panel import PageData, Panel, drawing


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    if data.paid_for == "boxes":  # a label belongs to one image
        yield {"drawing": drawing(draw_boxes_per_image(data.comparison), "boxes")}


PANEL = Panel(
    "Boxes per image bought",
    _sections,
    """\
<figure>{{ drawing }}</figure>
<p class="muted">Means over seeds. A strategy that buys images with many boxes pays more for each image.</p>""",
    width="half",
)
