"""The AP of each class at equal cost."""

from collections.abc import Iterator, Sequence
from typing import Any

from alloop.report.numbers import amount
from alloop.report.panel import Cell, HtmlTable, PageData, Panel, number
from alloop.report.panels.bought_by_class import MOST_LEVEL, by_size, marked_names
from alloop.results.class_balance import ClassBalance


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    balance = data.balance
    if balance is not None and balance.paid is not None:
        yield {"paid": amount(balance.paid), "table": _table(balance, data.paid_for)}


def _table(balance: ClassBalance, paid_for: str) -> HtmlTable:
    marked = marked_names(balance)
    heads = ["class", f"{paid_for} in the pool", *(entry.strategy for entry in balance.strategies)]

    def means(title: str, members: Sequence[str]) -> list[str | Cell]:
        return [title, "", *(number(entry.ap_of(members)) for entry in balance.strategies)]

    rows = [means("all classes", balance.names), *(means(group, members) for group, members in balance.groups.items())]
    for k in by_size(balance):
        pool = number(None if balance.pool is None else balance.pool[k], ".0f")
        rows.append([marked[k], pool, *(number(entry.ap[balance.names[k]]) for entry in balance.strategies)])
    return HtmlTable(heads, rows, upright=len(balance.strategies) > MOST_LEVEL)


PANEL = Panel(
    "{{ figure }} by class at {{ paid }} {{ unit }}",
    _sections,
    """\
{{ table }}
<p class="muted">Read between rounds at the cost that every run reached, means over seeds. Rare, common and frequent are
the groups of LVIS by images of the pool. * marks the rarest third of the classes.</p>""",
)
