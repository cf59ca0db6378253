"""The parameters of each strategy, and the settings that differ between runs."""

from collections.abc import Iterator, Mapping
from typing import Any

from alloop.report.panel import Cell, HtmlTable, PageData, Panel
from alloop.report.settings import StrategySettings, differences, strategy_settings, value_text


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    runs = data.comparison.runs
    settings = strategy_settings(runs, data.strategies)
    rows: list[list[str | Cell]] = [
        [entry.strategy, Cell(_listed(entry.given), css="wide"), Cell(_defaults(entry), css="wide")]
        for entry in settings
    ]
    different: list[list[str | Cell]] = [
        [one.key if first else "", Cell(value, css="wide"), Cell(", ".join(names), css="wide")]
        for one in differences(runs)
        for first, (value, names) in zip([True, *[False] * (len(one.values) - 1)], one.values.items(), strict=True)
    ]
    yield {
        "settings": HtmlTable(("strategy", "set in the config", "defaults"), rows),
        "differences": HtmlTable(("key", "value", "strategies or runs"), different) if different else None,
        "several": len(runs) > 1,
    }


def _defaults(entry: StrategySettings) -> str:
    return "unknown" if entry.defaults is None else _listed(entry.defaults)


def _listed(parameters: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value_text(value)}" for key, value in parameters.items()) or "none"


PANEL = Panel(
    "Settings",
    _sections,
    """\
{{ settings }}
<p class="muted">A run records the parameters that its config sets. The others have the defaults of the version of
alloop that wrote this page; those of a strategy that is not built in are unknown to it.</p>
{% if differences %}<h3>What differs between the runs</h3>
{{ differences }}
<p class="muted">These keys of the configs and of the environments differ, besides the strategy and the random seed.</p>
{% elif several %}<p>Besides the strategy and the random seed, the configs and environments of all runs are equal.</p>
{% endif %}""",
)
