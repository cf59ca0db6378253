"""Result tables of the four papers, as data, and one of them laid over a comparison of one's own.

Numbers are as printed; null is not reported; `suspect` names cells that may be misprints.
"""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from alloop.errors import ConfigError, nearest
from alloop.results.compare import Comparison, mean_curve
from alloop.results.curves import efficiency, saving

SHARES = (0.5, 0.7, 0.9, 1.0)  # of random's last figure, at which boxes are compared
OURS = {
    "Random": "random",
    "ISAL": "influence",
    "Coreset": "k_center",
    "Learning loss": "learning_loss",
    "Localization stability": "localization_stability",
}


@lru_cache(maxsize=1)
def tables() -> Mapping[str, Any]:
    """Every bundled table by name: `title`, `rows`, and where there are any `metric`, `columns`, `suspect`."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "paper_tables.json").read_text(encoding="utf-8"))
    return found


def published_table(name: str, comparison: Comparison) -> list[str]:
    """A published table; one of AP and boxes beside the same reading of one's own curves.

    Raises:
        ConfigError: no such table.
    """
    if name not in tables():
        msg = f"--paper: {name!r} is not bundled{nearest(name, tables())}"
        raise ConfigError(msg)
    table = tables()[name]
    lines = [f"{name}: {table['title']}{', ' + table['metric'] if 'metric' in table else ''}"]
    if all(isinstance(row, dict) and "bbox_num" in row for row in table["rows"].values()):
        return [*lines, *_overlay(table, comparison)]
    if "columns" in table:
        lines.append("  " + " ".join(f"{column:>9}" for column in ("", *table["columns"])))
    lines += [f"  {' '.join(cells)}" for cells in _flat(table["rows"])]
    return [*lines, *_suspects(table)]


def _suspects(table: Mapping[str, Any]) -> list[str]:
    return [f"  may be a misprint: {', '.join(filter(None, cell))}" for cell in table.get("suspect", [])]


def _flat(rows: Any, path: str = "") -> Iterator[list[str]]:
    """One line for each innermost row."""
    if isinstance(rows, dict) and any(isinstance(value, dict | list) for value in rows.values()):
        for key, value in rows.items():
            yield from _flat(value, f"{path}{key} ")
    elif isinstance(rows, dict):
        yield [path.strip(), *(f"{key}={_cell(value)}" for key, value in rows.items())]
    else:
        yield [path.strip(), *(f"{_cell(value):>9}" for value in (rows if isinstance(rows, list) else [rows]))]


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, int | float) else str(value)


def _overlay(table: Mapping[str, Any], comparison: Comparison) -> list[str]:
    """Boxes saved against random at shares of random's last figure: as published, and in one's own runs."""
    theirs = {method: _published_curve(row) for method, row in table["rows"].items()}
    own = {run.strategy for run in comparison.runs if run.rounds and not run.full_label}
    ours = {name: mean_curve(comparison.runs, name, comparison.metric) for name in own}
    head = "".join(f"{f'at {share:.0%}':>16}" for share in SHARES)
    lines = ["  boxes saved against random at shares of random's last figure: published / here", f"  {'':<24}{head}"]
    for method, curve in theirs.items():
        name = OURS.get(method, method)
        cells = []
        for share in SHARES:
            published = _saving(curve, theirs["Random"], share)
            here = _saving(ours[name], ours["random"], share) if {name, "random"} <= ours.keys() else "-"
            cells.append(f"{published + ' / ' + here:>16}")
        lines.append(f"  {method:<24}{''.join(cells)}")
    lines.append("  10^4 x figure / boxes at the last step: published / here")
    for method, (boxes, figure) in theirs.items():
        name = OURS.get(method, method)
        here = f"{efficiency(ours[name][0][-1], ours[name][1][-1]):.3f}" if name in ours else "-"
        lines.append(f"  {method:<24}{efficiency(boxes[-1], figure[-1]):>8.4f} / {here}")
    return lines


def _published_curve(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and figure of the steps that are reported."""
    (metric,) = (key for key in row if key not in ("bbox_num", "10k_x_metric_per_bbox"))
    points = [(b, v) for b, v in zip(row["bbox_num"], row[metric], strict=True) if b is not None and v is not None]
    return np.array([b for b, _ in points]), np.array([v for _, v in points])


def _saving(curve: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], share: float) -> str:
    found = saving(*curve, *other, target=share * float(other[1][-1]))
    return "-" if found is None else f"{found:.0%}"
