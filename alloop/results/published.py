"""Result tables of the four papers, and how one of them is shown beside a comparison of one's own runs.

Numbers are as printed; null means not reported; `suspect` names cells that may be misprints.
"""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from alloop.errors import ConfigError, nearest
from alloop.results.compare import Comparison, mean_curve
from alloop.results.curves import efficiency, saving
from alloop.tables import Table

SHARES = (0.5, 0.7, 0.9, 1.0)  # of random's last figure, at which the boxes are compared
STRATEGY_OF_METHOD = {
    "Random": "random",
    "ISAL": "influence",
    "Coreset": "k_center",
    "Learning loss": "learning_loss",
    "Localization stability": "localization_stability",
}

_IMAGES_PER_STEP = re.compile(r"\((\d+) images per step")

Curve = tuple[np.ndarray, np.ndarray]  # boxes and figures


@lru_cache(maxsize=1)
def tables() -> Mapping[str, Any]:
    """Return every bundled table by name, with `title` and `rows`, and where known `metric`, `columns`, `suspect`."""
    trees: dict[str, Any] = json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))
    return trees


def published_table(name: str, comparison: Comparison) -> list[str | Table]:
    """Return a published table as lines and tables; for a table of AP and boxes, with one's own runs beside it.

    Raises:
        ConfigError: no table has this name.
    """
    if name not in tables():
        msg = f"--paper: {name!r} is not bundled{nearest(name, tables())}"
        raise ConfigError(msg)
    table = tables()[name]
    title = f"{name}: {table['title']}{', ' + table['metric'] if 'metric' in table else ''}"
    published = _published_curves(table)
    if published:
        return [title, *_beside(published, comparison)]
    suspects = [f"may be a misprint: {', '.join(filter(None, cell))}" for cell in table.get("suspect", [])]
    return [title, _as_printed(table), *suspects]


def _as_printed(table: Mapping[str, Any]) -> Table:
    rows = list(_flat(table["rows"]))
    width = max(map(len, rows))
    columns = ["", *table.get("columns", ())][:width]
    return Table([*columns, *[""] * (width - len(columns))], [[*row, *[""] * (width - len(row))] for row in rows])


def _flat(rows: Any, path: str = "") -> Iterator[list[str]]:
    """Yield one list of cells for each innermost row."""
    if isinstance(rows, dict) and any(isinstance(value, dict | list) for value in rows.values()):
        for key, value in rows.items():
            yield from _flat(value, f"{path}{key} ")
    elif isinstance(rows, dict):
        yield [path.strip(), *(f"{key}={_cell(value)}" for key, value in rows.items())]
    else:
        yield [path.strip(), *(_cell(value) for value in (rows if isinstance(rows, list) else [rows]))]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _beside(published: Mapping[str, Curve], comparison: Comparison) -> list[str | Table]:
    """Return savings and efficiencies, as published and in one's own runs."""
    unit = "images" if comparison.runs[0].unit == "labels" else "boxes"
    names = {run.strategy for run in comparison.runs if run.rounds and not run.full_label}
    own = {name: mean_curve(comparison.runs, name, comparison.metric) for name in names}
    savings, efficiencies = [], []
    for method, curve in published.items():
        name = STRATEGY_OF_METHOD.get(method, method)
        here = own.get(name)
        theirs = [_saving(curve, published["Random"], share) for share in SHARES]
        ours = [_saving(here, own.get("random"), share) for share in SHARES]
        savings.append([method, *(f"{a} / {b}" for a, b in zip(theirs, ours, strict=True))])
        efficiencies.append([method, _efficiency(curve, ".4f"), _efficiency(here, ".3f")])
    return [
        f"{unit} saved against random at shares of random's last figure: published / here",
        Table(["", *(f"at {share:.0%}" for share in SHARES)], savings),
        f"10^4 x figure / {unit} at the last step",
        Table(["", "published", "here"], efficiencies),
    ]


def _published_curves(table: Mapping[str, Any]) -> dict[str, Curve]:
    """Return the curve of each method of a table of figures against boxes, or of accuracies of equal steps."""
    rows = table["rows"]
    if all(isinstance(row, dict) and "bbox_num" in row for row in rows.values()):
        return {method: _published_curve(row) for method, row in rows.items()}
    step = _IMAGES_PER_STEP.search(table["title"])
    if step is None or "accuracy" not in table.get("metric", ""):
        return {}
    images = float(step[1]) * np.arange(1, 1 + len(table["columns"]))
    return {method: (images, np.array(row) / 100) for method, row in rows.items()}


def _published_curve(row: Mapping[str, Any]) -> Curve:
    """Return boxes and figures of the steps that are reported."""
    (metric,) = (key for key in row if key not in ("bbox_num", "10k_x_metric_per_bbox"))
    points = [(b, v) for b, v in zip(row["bbox_num"], row[metric], strict=True) if b is not None and v is not None]
    return np.array([b for b, _ in points]), np.array([v for _, v in points])


def _saving(curve: Curve | None, other: Curve | None, share: float) -> str:
    if curve is None or other is None:
        return "-"
    saved = saving(*curve, *other, target=share * float(other[1][-1]))
    return "-" if saved is None else f"{saved:.0%}"


def _efficiency(curve: Curve | None, form: str) -> str:
    return "-" if curve is None else format(efficiency(curve[0][-1], curve[1][-1]), form)
