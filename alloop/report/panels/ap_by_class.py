"""The AP of each class at equal cost."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from alloop.report.panel import HtmlTable, PageData, Panel, number
from alloop.report.panels.bought_by_class import marked
from alloop.results.class_balance import ClassBalance


def _sections(data: PageData) -> Iterator[dict[str, Any]]:
    balance = data.balance
    if balance is not None and balance.paid is not None:
        yield {"paid": f"{balance.paid:.6g}", "table": _table(balance)}


def _table(balance: ClassBalance) -> HtmlTable:
    names = [balance.names[k] for k in np.argsort(-balance.known, kind="stable")]
    rows = [
        [
            entry.strategy,
            number(entry.ap_of(names)),
            *(number(entry.ap_of(members)) for members in balance.groups.values()),
            *(number(entry.ap[name], ".2f") for name in names),
        ]
        for entry in balance.strategies
    ]
    return HtmlTable(["strategy", "all", *balance.groups, *(marked(name, balance) for name in names)], rows)


PANEL = Panel(
    "AP by class at {{ paid }} {{ unit }}",
    _sections,
    """\
{{ table }}
<p class="muted">Read between rounds at the cost that every run reached, means over seeds. Rare, common and frequent are
the groups of LVIS by images of the pool.</p>""",
)
