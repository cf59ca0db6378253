"""The result in a few sentences."""

from collections.abc import Iterator
from typing import Any

from alloop.report.curve import styles_of
from alloop.report.panel import PageData, Panel
from alloop.report.summary import ends, headline, measure, outlook, results
from alloop.report.text import noise_sentence


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    comparison = data.comparison
    noise = None if comparison.replicate_noise is None else noise_sentence(comparison)
    yield {
        "headline": headline(comparison),
        "measure": measure(comparison),
        "results": [*results(comparison), *ends(comparison)],
        "colours": {name: style.colour for name, style in styles_of(comparison).items()},
        "noise": noise,
        "outlook": outlook(comparison),
    }


PANEL = Panel(
    "Summary",
    _sections,
    """\
<p><strong>{{ headline }}</strong> {{ measure }}</p>
<ul class="results">{% for result in results %}<li{% if result.verdict %} class="{{ result.verdict }}"{% endif %}>\
<i style="background: {{ colours.get(result.strategy, 'currentColor') }}"></i>\
<strong>{{ result.strategy }}</strong>: {{ result.text }}</li>
{% endfor %}</ul>
{% if outlook %}<p>{{ outlook }}</p>{% endif %}
{% if noise %}<p>{{ noise }}.</p>{% endif %}""",
)
