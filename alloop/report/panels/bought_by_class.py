"""How many boxes of each class were bought: by each strategy in the end, and by one strategy up to each round."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alloop.report.panel import Cell, HtmlTable, PageData, Panel, number
from alloop.results.class_balance import ClassBalance, StrategyClasses, class_entropy

MOST_LEVEL = 6  # strategies whose names are written level above their columns
Column = tuple[str, np.ndarray, float | None, float | None]
"""Heading, boxes of each class, entropy, divergence from the pool."""


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    balance = data.balance
    if balance is None:
        return
    rounds = {entry.strategy: _table(balance, _rounds(entry, balance)) for entry in balance.strategies}
    ends = [(entry.strategy, *_rounds(entry, balance)[-1][1:]) for entry in balance.strategies]
    yield {"ends": _table(balance, ends), "rounds": rounds}


def _rounds(entry: StrategyClasses, balance: ClassBalance) -> list[Column]:
    figures = zip(entry.bought, entry.entropy(), entry.divergence(balance.pool), strict=True)
    return [(f"round {round_}", *column) for round_, column in enumerate(figures)]


def _table(balance: ClassBalance, columns: Sequence[Column]) -> HtmlTable:
    """Return a table with a row for each class and a column for each purchase, the whole pool first."""
    pool: list[Column] = [] if balance.pool is None else [("pool", balance.pool, class_entropy(balance.pool), None)]
    shown = [*pool, *columns]
    names = marked_names(balance)
    totals = [max(1.0, float(counts.sum())) for _, counts, _, _ in shown]
    rows: list[list[str | Cell]] = [
        [
            names[k],
            *(
                Cell(f"{counts[k]:.0f}", shade=float(counts[k] / total))
                for (_, counts, _, _), total in zip(shown, totals, strict=True)
            ),
        ]
        for k in by_size(balance)
    ]
    rows += [
        ["all classes", *(f"{counts.sum():.0f}" for _, counts, _, _ in shown)],
        ["entropy", *(number(entropy) for _, _, entropy, _ in shown)],
        ["KL from pool", *(number(divergence) for _, _, _, divergence in shown)],
    ]
    heads = ["class", *(head for head, _, _, _ in shown)]
    return HtmlTable(heads, rows, striped=False, upright=len(columns) > MOST_LEVEL)


def by_size(balance: ClassBalance) -> list[int]:
    """Return the labels of all classes, the one with the most boxes first."""
    return [int(k) for k in np.argsort(-balance.known, kind="stable")]


def marked_names(balance: ClassBalance) -> list[str]:
    """Return the class names in label order, with an asterisk where one is among the rarest third."""
    rare = set(balance.rare)
    return [f"{name} *" if name in rare else name for name in balance.names]


PANEL = Panel(
    "{{ paid_for | capitalize }} bought by class",
    _sections,
    """\
{% if rounds | length > 1 %}{{ ends }}
{% for strategy, table in rounds.items() %}<details><summary>{{ strategy }}, up to each round</summary>
{{ table }}</details>
{% endfor %}{% else %}{% for table in rounds.values() %}{{ table }}{% endfor %}{% endif %}
<p class="muted">{{ paid_for | capitalize }} paid up to the end or up to each round, means over seeds; the shade is
the share of the class.
Entropy and divergence are in nats. * marks the rarest third of the classes.</p>""",
)
