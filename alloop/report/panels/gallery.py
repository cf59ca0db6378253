"""Pictures of what each strategy bought first and last."""

from collections.abc import Iterator
from typing import Any

from alloop.report.gallery import galleries
from alloop.report.panel import PageData, Panel


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    pictures, reason = galleries(data.runs, data.strategies)
    if pictures or reason:
        yield {"galleries": pictures, "reason": reason}


PANEL = Panel(
    "Images bought first and last",
    _sections,
    """\
{% if galleries %}<p class="muted">From the first seed of each strategy: the top of its first purchase and the end of
its last, in the order in which they were chosen, with the boxes that were paid for. The pointer shows their classes.
The utility is the figure that the strategy chooses by; what it means depends on the strategy.</p>{% endif %}
{% for gallery in galleries %}<h3>{{ gallery.strategy }}</h3>
{% if gallery.why %}<p>{{ gallery.why }}</p>{% endif %}
{% for part, pictures in (("first", gallery.first), ("last", gallery.last)) %}<span class="muted">{{ part }}</span>
<div class="pictures">{% for picture in pictures %}{{ picture }}{% endfor %}</div>\
{% endfor %}{% endfor %}
{% if reason %}<p class="note">{{ reason }}</p>{% endif %}""",
)
