"""The verdicts as sentences."""

from collections.abc import Iterator
from typing import Any

from alloop.report.panel import PageData, Panel
from alloop.report.text import noise_sentence, sentence


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    comparison = data.comparison
    sentences = [sentence(versus, comparison.cost) for versus in comparison.versus]
    noise = None if comparison.replicate_noise is None else noise_sentence(comparison)
    if sentences or noise:
        yield {"sentences": sentences, "noise": noise}


PANEL = Panel(
    "In words",
    _sections,
    """\
<ul>{% for text in sentences %}<li>{{ text }}.</li>{% endfor %}</ul>
{% if noise %}<p>{{ noise }}.</p>{% endif %}""",
)
