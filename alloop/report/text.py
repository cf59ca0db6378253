"""A comparison as JSON of the fixed form, as CSV, and as a plain table for a terminal."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from alloop.budget.prices import BOXES, IMAGES, CostModel
from alloop.ledger.store import RoundRecord
from alloop.results.class_balance import ClassBalance
from alloop.results.compare import Comparison, Versus, compared, flips, mean_curve
from alloop.results.curves import ap_at, boxes_to_reach
from alloop.results.runs import Run

_COLUMNS = ("strategy", "random_seed", "label_using", "round", "images", "boxes", "ap", "ap50", "ap75")
_NAMES = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The fixed machine-readable form."""
    keys = ("ap", "ap50", "ap75")
    return {
        "metric": comparison.metric,
        "cost": asdict(comparison.cost),
        "runs": [
            {
                "strategy": run.strategy,
                "random_seed": run.random_seed,
                "label_using": run.label_using,
                "paid": list(run.paid),
                "predicted_boxes": list(run.predicted_boxes),
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
        "replay_noise": comparison.noise,
    }


def classes_json(balance: ClassBalance) -> dict[str, Any]:
    """Boxes bought and AP at equal cost by class, for each strategy."""
    return {
        "names": balance.names,
        "pool_boxes": None if balance.pool is None else balance.pool.tolist(),
        "rare": balance.rare,
        "groups": balance.groups,
        "paid": balance.paid,
        "strategies": [
            {
                "strategy": one.strategy,
                "boxes": one.bought.tolist(),
                "entropy": one.entropy(),
                "divergence": one.divergence(balance.pool),
                "ap": one.ap,
                "rare_ap": one.ap_of(balance.rare),
                "group_ap": {group: one.ap_of(names) for group, names in balance.groups.items()},
            }
            for one in balance.strategies
        ],
    }


def to_csv(comparison: Comparison) -> str:
    """One line a round of every run."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*_COLUMNS, *_priced(comparison)])
    for run in comparison.runs:
        for paid, r in zip(run.paid, run.rounds, strict=True):
            figures = ("" if (v := r.metrics[key]) is None else f"{v:.6f}" for key in ("ap", "ap50", "ap75"))
            head = (run.strategy, run.random_seed, str(run.label_using).lower(), r.round, r.images, r.boxes)
            writer.writerow([*head, *figures, *(f"{paid:.6g}" for _ in _priced(comparison))])
    return buffer.getvalue()


def _priced(comparison: Comparison) -> list[str]:
    """A column for the cost where it is no count that stands there already."""
    return [] if comparison.cost in (BOXES, IMAGES) else ["cost"]


def counted(cost: CostModel) -> str:
    """`boxes`, `images`, or `cost (draw, seconds)`."""
    if cost in (BOXES, IMAGES):
        return cost.name
    return f"cost ({cost.name}{', ' if cost.unit else ''}{cost.unit})"


def to_table(comparison: Comparison, target_ap: float | None = None, at_paid: float | None = None) -> str:
    """Plain text for a terminal: one line a round and strategy (means over seeds), then the verdicts.

    Args:
        comparison: what to show.
        target_ap: also the boxes (or other cost) that each strategy needs for this AP.
        at_paid: also the AP of each strategy at so many boxes (or at another cost).
    """
    runs, wide = comparison.runs, max([24, *(len(run.strategy) + 15 * run.label_using for run in comparison.runs)])
    extra = "".join(f"{name:>12}" for name in _priced(comparison))
    lines = [
        f"{'strategy':<{wide}}{'round':>6}{'seeds':>6}{'images':>8}{'boxes':>9}{'AP':>8}{'AP50':>8}{'AP75':>8}{extra}"
    ]
    for row in mean_rows(runs):
        figures = "".join(f"{'-' if row[k] is None else format(row[k], '.3f'):>8}" for k in ("ap", "ap50", "ap75"))
        paid = "".join(f"{row['paid']:>12.6g}" for _ in _priced(comparison))
        name = f"{row['strategy']}{' (uses labels)' if row['label_using'] else ''}"
        head = f"{name:<{wide}}{row['round']:>6}{row['seeds']:>6}{row['images']:>8.0f}{row['boxes']:>9.0f}"
        lines.append(f"{head}{figures}{paid}")
    lines.append("")
    lines += [sentence(v, comparison.cost) for v in comparison.versus] or ["No strategy to compare with random yet."]
    lines += flip_lines(comparison)
    if comparison.noise is not None:
        lines.append(noise_sentence(comparison))
    if comparison.areas:
        listed = ", ".join(f"{name} {area:.3f}" for name, area in sorted(comparison.areas.items(), key=lambda i: -i[1]))
        over = counted(comparison.cost)
        lines += ["", f"Mean {comparison.metric.upper()} over the {over} that all strategies cover: {listed}"]
    if target_ap is not None:
        lines += ["", *_reach_lines(comparison, target_ap)]
    if at_paid is not None:
        lines += ["", *_at_lines(comparison, at_paid)]
    if any(run.facts.get("reference_is_test") == "true" for run in runs):
        lines.append("The reference split is the test split: a strategy that looks at it has seen the test labels.")
    return "\n".join(lines)


def flip_lines(comparison: Comparison) -> list[str]:
    """Where counting images instead of boxes (or boxes instead of anything else) would give another answer."""
    instead = IMAGES if comparison.cost == BOXES else BOXES
    other = compared((*comparison.runs, *comparison.replicates), comparison.metric, comparison.test, instead)
    return [
        f"Counted in {counted(instead)}, {b.strategy} would be {b.difference:+.3f}: {b.verdict} "
        f"(in {counted(comparison.cost)} {a.difference:+.3f}: {a.verdict})"
        for a, b in flips(comparison, other)
    ]


def noise_sentence(comparison: Comparison) -> str:
    """What a run and its repetition differ by."""
    name, replicates = _NAMES[comparison.metric], len(comparison.replicates)
    return f"Replay noise: repeated runs differ by up to {comparison.noise:.4f} {name} ({replicates} repetitions)"


def class_lines(balance: ClassBalance | None) -> list[str]:
    """What was bought of each class, and its AP at equal cost."""
    if balance is None:
        return ["These runs did not record their classes."]
    paid = "where the curves share no range" if balance.paid is None else f"at {balance.paid:.6g} paid"
    rare, width = set(balance.rare), max(18, *map(len, balance.names))  # 18: what stands before the pool in a group
    lines = [f"Boxes bought and AP by class, AP {paid}; * are the rarest third of the classes"]
    heads = "".join(f"{one.strategy[:22]:>24}" for one in balance.strategies)
    lines.append(f"{'':<{width + 2}}{'pool':>8}{heads}")
    pool = ["?" if balance.pool is None else f"{balance.pool[k]:.0f}" for k in range(len(balance.names))]
    for k, name in enumerate(balance.names):
        cells = "".join(f"{one.bought[-1][k]:>14.0f}{_figure(one.ap[name]):>10}" for one in balance.strategies)
        lines.append(f"{name:<{width}}{' *' if name in rare else '  '}{pool[k]:>8}{cells}")
    for title, values in (
        *(
            (f"AP, {group}", [_figure(one.ap_of(names)) for one in balance.strategies])
            for group, names in balance.groups.items()
        ),
        ("entropy", [f"{one.entropy()[-1]:.3f}" for one in balance.strategies]),
        ("KL from the pool", [_figure(one.divergence(balance.pool)[-1]) for one in balance.strategies]),
    ):
        lines.append(f"{title:<{width + 10}}" + "".join(f"{value:>24}" for value in values))
    return lines


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def mean_rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Means over seeds by strategy and round."""
    groups: dict[tuple[str, int], list[tuple[Run, RoundRecord, float]]] = {}
    for run in runs:
        for paid, record in zip(run.paid, run.rounds, strict=True):
            groups.setdefault((run.strategy, record.round), []).append((run, record, paid))
    rows = []
    for (strategy, round_), members in groups.items():
        row: dict[str, Any] = {
            "strategy": strategy,
            "round": round_,
            "seeds": len(members),
            "label_using": any(run.label_using for run, _, _ in members),
            "images": float(np.mean([r.images for _, r, _ in members])),
            "boxes": float(np.mean([r.boxes for _, r, _ in members])),
            "paid": float(np.mean([paid for _, _, paid in members])),
        }
        for key in ("ap", "ap50", "ap75"):
            values = [value for _, r, _ in members if (value := r.metrics[key]) is not None]
            row[key] = float(np.mean(values)) if values else None
        rows.append(row)
    return rows


def sentence(versus: Versus, cost: CostModel = BOXES) -> str:
    """One verdict in words."""
    name = _NAMES[versus.metric]
    text = f"{versus.strategy} against random at equal {counted(cost)}: {versus.difference:+.3f} {name}"
    if versus.interval is None:
        text += f" ({versus.seeds} seed{'s' * (versus.seeds > 1)}; an interval needs several seeds)"
    else:
        text += f" (95 % interval {versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}, {versus.seeds} seeds)"
    text += f": {versus.verdict}"
    if versus.verdict == "inconclusive" and versus.detectable:
        text += f" ({versus.seeds} seeds that differ so much find a difference of {versus.detectable:.3f})"
    if versus.saving is not None:
        fewer = f"fewer {cost.name}" if cost in (BOXES, IMAGES) else "less cost"
        text += f"; random's best {name} with {versus.saving:.0%} {fewer}" if versus.saving >= 0 else ""
    return text


def _reach_lines(comparison: Comparison, target: float) -> list[str]:
    lines, unit = [], counted(comparison.cost)
    for name in _strategies(comparison):
        needed = boxes_to_reach(*mean_curve(comparison.runs, name, comparison.metric), target)
        lines.append(f"{name}: {comparison.metric} {target:g} {f'at {needed:.6g} {unit}' if needed else 'not reached'}")
    return lines


def _at_lines(comparison: Comparison, paid: float) -> list[str]:
    lines = []
    for name in _strategies(comparison):
        found = ap_at(*mean_curve(comparison.runs, name, comparison.metric), paid)
        text = f"{found:.3f}" if found is not None else "outside its curve"
        lines.append(f"{name}: {comparison.metric} {text} at {paid:g} {counted(comparison.cost)}")
    return lines


def _strategies(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(run.strategy for run in comparison.runs if run.rounds and not run.full_label))


def dumps(tree: Any) -> str:
    """JSON without NaN."""
    return json.dumps(tree, allow_nan=False, indent=2)
