"""A prune-then-train study as a table, as CSV, and as a curve of AP against the share kept."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from alloop.files import atomic_write
from alloop.pruning.study import SCORER, Trained
from alloop.report.style import INK, Style, new_figure, png, style_axes
from alloop.results.names import METRICS, Metric, metric_title
from alloop.results.statistics import LEVEL, holm, t_interval
from alloop.studies.grid import FULL_LABEL
from alloop.tables import Table, csv_text, plain

MEASURES = (*get_args(Metric), *(f"mask_{metric}" for metric in METRICS))
_IN_TABLE = ("ap", "ap50", "mask_ap", "mask_ap50")
_DRAWN = ("ap", "mask_ap")
WHOLE = {FULL_LABEL: ("everything", "--"), SCORER: ("everything, as the scorer is trained", ":")}


def write_pruned(results: Sequence[Trained], folder: Path) -> list[str | Table]:
    """Write `pruned.csv` and `pruned.png` into the folder; return what the command prints."""
    if not results:
        return [f"{folder}: nothing is trained yet"]
    atomic_write(folder / "pruned.csv", to_csv(results).encode())
    atomic_write(folder / "pruned.png", curve_png(results))
    return [*result_blocks(results), "", f"Table and curve: {folder / 'pruned.csv'} {folder / 'pruned.png'}"]


def to_csv(results: Sequence[Trained]) -> str:
    """Return one line for each training."""
    keys = _measured(results, MEASURES)
    rows = [
        [
            *(result.strategy, result.random_seed, f"{result.keep:g}", result.images, result.boxes),
            *(f"{result.class_entropy:.6f}", f"{result.divergence:.6f}"),
            *("" if (value := result.metrics.get(key)) is None else f"{value:.6f}" for key in keys),
        ]
        for result in results
    ]
    return csv_text(["strategy", "random_seed", "keep", "images", "boxes", "class_entropy", "divergence", *keys], rows)


def to_table(results: Sequence[Trained]) -> str:
    """Return `result_blocks` as plain text."""
    return plain(*result_blocks(results))


def result_blocks(results: Sequence[Trained]) -> list[str | Table]:
    """Return means over the seeds for each share and strategy, and how they differ from random's."""
    keys = _measured(results, _IN_TABLE)
    rows = [_row(keep, strategy, _members(results, keep, strategy), keys) for keep, strategy in _groups(results)]
    heads = ["keep", "strategy", "seeds", "images", "boxes", "entropy", *map(metric_title, keys)]
    return [Table(heads, rows, left=2), "", *_against_random(results, keys)]


def _row(keep: float, strategy: str, members: Sequence[Trained], keys: Sequence[str]) -> list[str]:
    images, boxes = (np.mean([m.images for m in members]), np.mean([m.boxes for m in members]))
    entropy = np.mean([m.class_entropy for m in members])
    balance = [f"{len(members)}", f"{images:.0f}", f"{boxes:.0f}", f"{entropy:.3f}"]
    return [f"{keep:.0%}", strategy, *balance, *(_mean(members, key) for key in keys)]


def _mean(members: Sequence[Trained], key: str) -> str:
    values = [value for member in members if (value := member.metrics.get(key)) is not None]
    return f"{np.mean(values):.3f}" if values else "-"


def _measured(results: Sequence[Trained], keys: Sequence[str]) -> list[str]:
    """Return the metrics that at least one training has."""
    return [key for key in keys if any(result.metrics.get(key) is not None for result in results)]


def _groups(results: Sequence[Trained]) -> list[tuple[float, str]]:
    """Return shares and strategies, the largest share first, the strategies of a share in their order."""
    pairs = dict.fromkeys((result.keep, result.strategy) for result in results)
    return sorted(pairs, key=lambda pair: -pair[0])


def _members(results: Sequence[Trained], keep: float, strategy: str) -> list[Trained]:
    return [result for result in results if (result.keep, result.strategy) == (keep, strategy)]


def _against_random(results: Sequence[Trained], keys: Sequence[str]) -> list[str]:
    """Return in one sentence each how a strategy differs from random at the same share, for each metric.

    The p-values behind the verdicts of a metric are corrected by Holm's method for all its strategies and shares.
    """
    cells = [(keep, strategy) for keep, strategy in _groups(results) if strategy not in ("random", *WHOLE)]
    parts: dict[tuple[float, str], list[str]] = {cell: [] for cell in cells}
    for key in keys:
        gaps = {cell: _gaps(results, *cell, key) for cell in cells}
        known = [cell for cell in cells if gaps[cell]]
        p_values = holm([t_interval(gaps[cell])[1] for cell in known])
        for cell, p_value in zip(known, p_values, strict=True):
            parts[cell].append(f"{metric_title(key)} {_gap_text(gaps[cell], p_value)}")
    return [
        f"{strategy} at {keep:.0%} against random: {', '.join(parts[keep, strategy]) or 'not trained'}"
        for keep, strategy in cells
    ]


def _gaps(results: Sequence[Trained], keep: float, strategy: str, key: str) -> list[float]:
    """Return the gaps to random under the seeds that both have."""
    random = {member.random_seed: member.metrics.get(key) for member in _members(results, keep, "random")}
    return [
        value - other
        for member in _members(results, keep, strategy)
        if (value := member.metrics.get(key)) is not None and (other := random.get(member.random_seed)) is not None
    ]


def _gap_text(gaps: Sequence[float], p_value: float | None) -> str:
    """Return the mean gap with its interval and its verdict; without them where the seeds show no spread."""
    mean, (interval, _) = float(np.mean(gaps)), t_interval(gaps)
    if interval is None or p_value is None:
        return f"{mean:+.3f}"
    verdict = "inconclusive" if p_value >= 1 - LEVEL else "better" if mean > 0 else "worse"
    return f"{mean:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f}): {verdict}"


def curve_png(results: Sequence[Trained]) -> bytes:
    """Return AP, and mask AP where there are masks, against the share kept: means over seeds, seeds as faint dots."""
    keys = _measured(results, _DRAWN)
    count = max(1, len(keys))
    figure = new_figure(5.4 * count, 4.0)
    for axes, key in zip(np.atleast_1d(figure.subplots(1, count)), keys, strict=False):
        _draw_metric(axes, results, key)
    return png(figure)


def _draw_metric(axes: Any, results: Sequence[Trained], key: str) -> None:
    pruned = [result for result in results if result.strategy not in WHOLE]
    for name, (label, dash) in WHOLE.items():
        full = [value for r in results if r.strategy == name and (value := r.metrics.get(key))]
        if full:
            axes.axhline(float(np.mean(full)), linestyle=dash, color=INK, label=label)
    for number, name in enumerate(dict.fromkeys(result.strategy for result in pruned)):
        points = [
            (result.keep, value)
            for result in pruned
            if result.strategy == name and (value := result.metrics.get(key)) is not None
        ]
        _draw_strategy(axes, points, Style.of(number - 1, name), name)
    axes.set_xlabel("share of the images kept")
    axes.set_ylabel(f"{metric_title(key)} on the test split")
    axes.set_xticks(sorted({result.keep for result in pruned}))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    style_axes(axes)
    axes.legend(frameon=False)


def _draw_strategy(axes: Any, points: Sequence[tuple[float, float]], style: Style, name: str) -> None:
    if not points:
        return
    shares = sorted({keep for keep, _ in points})
    means = [np.mean([value for keep, value in points if keep == share]) for share in shares]
    axes.plot(*zip(*points, strict=True), ".", color=style.colour, alpha=0.35)
    axes.plot(shares, means, color=style.colour, marker=style.marker, linewidth=2, label=name)
