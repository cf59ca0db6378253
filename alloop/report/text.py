"""A comparison as JSON of the fixed form, as CSV, and as a plain table for a terminal."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alloop.compare import Comparison, Run, Versus, mean_curve
from alloop.derived import ap_at, boxes_to_reach
from alloop.ledger import RoundRecord


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The fixed machine-readable form."""
    keys = ("ap", "ap50", "ap75")
    return {
        "metric": comparison.metric,
        "runs": [
            {
                "strategy": run.strategy,
                "random_seed": run.random_seed,
                "label_using": run.label_using,
                "rounds": [
                    {"round": r.round, "images": r.images, "boxes": r.boxes, **{key: r.metrics[key] for key in keys}}
                    for r in run.rounds
                ],
            }
            for run in comparison.runs
        ],
        "comparisons": [asdict(versus) for versus in comparison.versus],
        "penalty_matrix": comparison.penalty_matrix,
        "test": comparison.test,
        "areas": comparison.areas,
    }


def to_csv(comparison: Comparison) -> str:
    """One line a round of every run."""
    lines = ["strategy,random_seed,label_using,round,images,boxes,ap,ap50,ap75"]
    for run in to_json(comparison)["runs"]:
        head = f"{run['strategy']},{run['random_seed']},{str(run['label_using']).lower()}"
        for r in run["rounds"]:
            cells = ("" if r[key] is None else f"{r[key]:.6f}" for key in ("ap", "ap50", "ap75"))
            lines.append(f"{head},{r['round']},{r['images']},{r['boxes']},{','.join(cells)}")
    return "\n".join(lines) + "\n"


def to_table(comparison: Comparison, target_ap: float | None = None, at_boxes: float | None = None) -> str:
    """Plain text for a terminal: one line a round and strategy (means over seeds), then the verdicts.

    Args:
        comparison: what to show.
        target_ap: also the boxes that each strategy needs for this AP.
        at_boxes: also the AP of each strategy at so many boxes.
    """
    runs = comparison.runs
    lines = [f"{'strategy':<24}{'round':>6}{'seeds':>6}{'images':>8}{'boxes':>9}{'AP':>8}{'AP50':>8}{'AP75':>8}"]
    for row in mean_rows(runs):
        figures = "".join(f"{'-' if row[k] is None else format(row[k], '.3f'):>8}" for k in ("ap", "ap50", "ap75"))
        name = f"{row['strategy']}{' (uses labels)' if row['label_using'] else ''}"
        lines.append(f"{name:<24}{row['round']:>6}{row['seeds']:>6}{row['images']:>8.0f}{row['boxes']:>9.0f}{figures}")
    lines.append("")
    lines += [sentence(versus) for versus in comparison.versus] or ["No strategy to compare with random yet."]
    if comparison.areas:
        listed = ", ".join(f"{name} {area:.3f}" for name, area in sorted(comparison.areas.items(), key=lambda i: -i[1]))
        lines += ["", f"Mean {comparison.metric.upper()} over the boxes that all strategies cover: {listed}"]
    if target_ap is not None:
        lines += ["", *_reach_lines(comparison, target_ap)]
    if at_boxes is not None:
        lines += ["", *_at_lines(comparison, at_boxes)]
    if any(run.facts.get("reference_is_test") == "true" for run in runs):
        lines.append("The reference split is the test split: a strategy that looks at it has seen the test labels.")
    return "\n".join(lines)


def mean_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Means over seeds by strategy and round."""
    groups: dict[tuple[str, int], list[tuple[Run, RoundRecord]]] = {}
    for run in runs:
        for record in run.rounds:
            groups.setdefault((run.strategy, record.round), []).append((run, record))
    rows = []
    for (strategy, round_), members in groups.items():
        row: dict[str, Any] = {
            "strategy": strategy,
            "round": round_,
            "seeds": len(members),
            "label_using": any(run.label_using for run, _ in members),
            "images": float(np.mean([r.images for _, r in members])),
            "boxes": float(np.mean([r.boxes for _, r in members])),
        }
        for key in ("ap", "ap50", "ap75"):
            values = [value for _, r in members if (value := r.metrics[key]) is not None]
            row[key] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def sentence(versus: Versus) -> str:
    """One verdict in words."""
    name = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}[versus.metric]
    text = f"{versus.strategy} against random at equal boxes: {versus.difference:+.3f} {name}"
    if versus.interval is None:
        text += f" ({versus.seeds} seed{'s' * (versus.seeds > 1)}; an interval needs several seeds)"
    else:
        text += f" (95 % interval {versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}, {versus.seeds} seeds)"
    text += f": {versus.verdict}"
    if versus.verdict == "inconclusive" and versus.detectable:
        text += f" ({versus.seeds} seeds that differ so much find a difference of {versus.detectable:.3f})"
    if versus.saving is not None:
        text += f"; random's best {name} with {versus.saving:.0%} fewer boxes" if versus.saving >= 0 else ""
    return text


def _reach_lines(comparison: Comparison, target: float) -> list[str]:
    lines = []
    for name in _strategies(comparison):
        needed = boxes_to_reach(*mean_curve(comparison.runs, name, comparison.metric), target)
        lines.append(f"{name}: {comparison.metric} {target:g} {f'at {needed:.0f} boxes' if needed else 'not reached'}")
    return lines


def _at_lines(comparison: Comparison, boxes: float) -> list[str]:
    lines = []
    for name in _strategies(comparison):
        found = ap_at(*mean_curve(comparison.runs, name, comparison.metric), boxes)
        text = f"{found:.3f}" if found is not None else "outside its curve"
        lines.append(f"{name}: {comparison.metric} {text} at {boxes:g} boxes")
    return lines


def _strategies(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(run.strategy for run in comparison.runs if run.rounds and not run.full_label))


def dumps(tree: Any) -> str:
    """JSON without NaN."""
    return json.dumps(tree, allow_nan=False, indent=2)
