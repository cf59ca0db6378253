"""How many boxes of each class were bought up to each round."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from alloop.report.panel import Cell, HtmlTable, PageData, Panel, number
from alloop.results.class_balance import ClassBalance

MOST_CLASSES = 12  # columns of the table; the boxes of the other classes are added up


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    if data.balance is not None:
        yield {"table": _table(data.balance)}


def _table(balance: ClassBalance) -> HtmlTable:
    order = np.argsort(-balance.known, kind="stable")
    shown, others = order[:MOST_CLASSES], order[MOST_CLASSES:]
    heads = [marked(balance.names[k], balance) for k in shown]
    if len(others):
        heads.append(f"{len(others)} others")

    def cells(counts: np.ndarray) -> list[Cell]:
        values = [*counts[shown], *([counts[others].sum()] if len(others) else [])]
        return [Cell(f"{value:.0f}", shade=float(value / max(1, counts.sum()))) for value in values]

    rows: list[list[str | Cell]] = [] if balance.pool is None else [["pool", *cells(balance.pool), "", ""]]
    for entry in balance.strategies:
        rows.append([entry.strategy])
        figures = zip(entry.bought, entry.entropy(), entry.divergence(balance.pool), strict=True)
        for round_, (counts, entropy, divergence) in enumerate(figures):
            rows.append([f"{round_}", *cells(counts), f"{entropy:.3f}", number(divergence)])
    return HtmlTable(["after round", *heads, "entropy", "KL from pool"], rows, striped=False)


def marked(name: str, balance: ClassBalance) -> str:
    """Return a class name, with an asterisk where it is among the rarest third."""
    return f"{name} *" if name in balance.rare else name


PANEL = Panel(
    "Boxes bought by class",
    _sections,
    """\
{{ table }}
<p class="muted">Boxes paid up to each round, means over seeds; the shade is the share of the class. Entropy and
divergence are in nats. * marks the rarest third of the classes.</p>""",
)
