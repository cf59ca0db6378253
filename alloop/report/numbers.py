"""The numbers of a comparison as JSON of the fixed form, as CSV, and as means over the seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alloop.budget.prices import BOXES, IMAGES, CostModel
from alloop.ledger.store import RoundRecord
from alloop.results.class_balance import ClassBalance
from alloop.results.compare import Comparison
from alloop.results.names import METRICS, Metric, columns
from alloop.results.runs import Run
from alloop.tables import csv_text

UNKNOWN = "\N{EN DASH}"  # in a table of the page; a file has an empty cell there

_COLUMNS = ("strategy", "random_seed", "label_using", "round", "images", "boxes")


def to_json(comparison: Comparison) -> dict[str, Any]:
    """Return the fixed machine-readable form; keys may be added, none may be renamed."""
    return {
        "metric": comparison.metric,
        "cost": comparison.cost.to_json(),
        "runs": [_run_json(run, comparison.metric) for run in comparison.runs],
        "comparisons": [asdict(versus) for versus in comparison.versus],
        "penalty_matrix": comparison.penalty_matrix,
        "test": comparison.test,
        "areas": comparison.areas,
        "ranges": {str(seed): list(within) for seed, within in comparison.ranges.items()},
        "replay_noise": comparison.replicate_noise,
    }


def _run_json(run: Run, metric: Metric) -> dict[str, Any]:
    return {
        "strategy": run.strategy,
        "random_seed": run.random_seed,
        "label_using": run.label_using,
        "paid": list(run.paid),
        "predicted_boxes": list(run.predicted_boxes),
        "rounds": [_round_json(record, metric) for record in run.rounds],
    }


def _round_json(record: RoundRecord, metric: Metric) -> dict[str, Any]:
    return {
        "round": record.round,
        "images": record.images,
        "boxes": record.boxes,
        **{key: record.metrics[key] for key in columns(metric)},
        **({"ap_at_100": record.metrics.get("ap_at_100")} if "ap" in record.metrics else {}),  # null where it is `ap`
    }


def classes_json(balance: ClassBalance) -> dict[str, Any]:
    """Return the boxes bought and the AP at equal cost of each class, for each strategy."""
    return {
        "names": balance.names,
        "pool_boxes": None if balance.pool is None else balance.pool.tolist(),
        "rare": balance.rare,
        "groups": balance.groups,
        "paid": balance.paid,
        "strategies": [
            {
                "strategy": entry.strategy,
                "boxes": entry.bought.tolist(),
                "entropy": entry.entropy(),
                "divergence": entry.divergence(balance.pool),
                "ap": entry.ap,
                "rare_ap": entry.ap_of(balance.rare),
                "group_ap": {group: entry.ap_of(names) for group, names in balance.groups.items()},
            }
            for entry in balance.strategies
        ],
    }


def to_csv(comparison: Comparison, more: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return one line for each round of every run; `more` has further columns by heading."""
    priced, measured = priced_columns(comparison), columns(comparison.metric)
    rows = []
    for run in comparison.runs:
        for paid, record in zip(run.paid, run.rounds, strict=True):
            metrics = ["" if (v := record.metrics[key]) is None else f"{v:.6f}" for key in measured]
            counts = (record.round, record.images, record.boxes)
            cost = [f"{paid:.6g}" for _ in priced]
            rows.append([run.strategy, run.random_seed, str(run.label_using).lower(), *counts, *metrics, *cost])
    added_columns = more or {}
    cells = zip(rows, *added_columns.values(), strict=True)
    return csv_text([*_COLUMNS, *measured, *priced, *added_columns], [[*row, *added] for row, *added in cells])


def priced_columns(comparison: Comparison) -> list[str]:
    """Return the heading of a column for the cost, unless the cost is a count that has a column already."""
    return [] if comparison.cost in (BOXES, IMAGES) else ["cost"]


def counted(cost: CostModel) -> str:
    """Return the unit of a cost in words: `boxes`, `images`, or `cost (draw, seconds)`."""
    if cost in (BOXES, IMAGES):
        return cost.name
    return f"cost ({cost.name}{', ' if cost.unit else ''}{cost.unit})"


def amount(paid: float) -> str:
    """Return what was paid, or a mean of that, without digits that say nothing."""
    return f"{paid:.0f}" if paid >= 100 else f"{paid:.4g}"


def mean_rows(runs: Sequence[Run], metrics: Sequence[Metric] = METRICS) -> list[dict[str, Any]]:
    """Return means over the seeds of counts, of what was paid and of `metrics`, a row for each strategy and round."""
    groups: dict[tuple[str, int], list[tuple[Run, RoundRecord, float]]] = {}
    for run in runs:
        for paid, record in zip(run.paid, run.rounds, strict=True):
            groups.setdefault((run.strategy, record.round), []).append((run, record, paid))
    return [_mean_row(strategy, round_, members, metrics) for (strategy, round_), members in groups.items()]


def _mean_row(
    strategy: str, round_: int, members: Sequence[tuple[Run, RoundRecord, float]], metrics: Sequence[Metric]
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "strategy": strategy,
        "round": round_,
        "seeds": len(members),
        "label_using": any(run.label_using for run, _, _ in members),
        "images": float(np.mean([r.images for _, r, _ in members])),
        "boxes": float(np.mean([r.boxes for _, r, _ in members])),
        "paid": float(np.mean([paid for _, _, paid in members])),
    }
    for key in metrics:
        values = [value for _, r, _ in members if (value := r.metrics[key]) is not None]
        row[key] = float(np.mean(values)) if values else None
    at_100 = [v for _, r, _ in members if (v := r.metrics.get("ap_at_100", r.metrics.get("ap"))) is not None]
    if any("ap_at_100" in r.metrics for _, r, _ in members):
        row["ap_at_100"] = float(np.mean(at_100))
    return row


def dumps(tree: Any) -> str:
    """Return JSON without NaN."""
    return json.dumps(tree, allow_nan=False, indent=2)
