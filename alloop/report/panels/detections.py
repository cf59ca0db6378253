"""Test images with what the last detector of each strategy found on them."""

from collections.abc import Iterator
from typing import Any

from alloop.report.detection_pictures import detection_galleries
from alloop.report.panel import PageData, Panel


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    galleries, reason = detection_galleries(data.first_runs)
    if galleries or reason:
        yield {"galleries": galleries, "reason": reason}


PANEL = Panel(
    "Detections on test images",
    _sections,
    """\
{% if galleries %}<p class="muted">The same images for all strategies: those on which the first run errs most. Of each
run, the detector of its last round is shown, with as many detections as there are true boxes on all test images, those
of the highest scores. <span class="right">Solid</span> boxes are right: they overlap a true box of their class with an
IoU of at least a half. <span class="wrong">Dashed</span> ones are wrong. The pointer shows class and score. A run keeps
how many true boxes a test image has, not where they are.</p>{% endif %}
{% for gallery in galleries %}<h3>{{ gallery.strategy }}, round {{ gallery.round }}, score from \
{{ '%.2f' | format(gallery.score) }}</h3>
<div class="pictures">{% for picture in gallery.pictures %}{{ picture }}{% endfor %}</div>
{% endfor %}
{% if reason %}<p class="note">{{ reason }}</p>{% endif %}""",
)
