"""Pictures of what each strategy bought first and last."""

from collections.abc import Iterator
from typing import Any

from alloop.report.gallery import galleries
from alloop.report.panel import PageData, Panel


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    pictures, reason = galleries(data.runs)
    if pictures or reason:
        yield {"galleries": pictures, "reason": reason}


PANEL = Panel(
    "Images bought first and last",
    _sections,
    """\
{% if galleries %}<p class="muted">From the first seed of each strategy: the top of its first purchase and the end of
its last. Below each picture stand the image id, its boxes and its utility.</p>{% endif %}
{% for gallery in galleries %}<h3>{{ gallery.strategy }}</h3>
{% for part, pictures in (("first", gallery.first), ("last", gallery.last)) %}<span class="muted">{{ part }}</span>
<div class="pictures">{% for picture in pictures %}\
<div><img src="{{ picture.uri }}" alt="{{ picture.text }}">{{ picture.caption }}</div>{% endfor %}</div>\
{% endfor %}{% endfor %}
{% if reason %}<p class="note">{{ reason }}</p>{% endif %}""",
)
