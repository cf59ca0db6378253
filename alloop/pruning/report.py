"""A prune-then-train study as a table, as CSV, and as a curve of AP against the share kept."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alloop.files import atomic_write
from alloop.pruning.study import Trained
from alloop.report.curve import COLOURS, MARKERS
from alloop.results.statistics import t_interval
from alloop.studies.grid import FULL_LABEL

MEASURES = ("ap", "ap50", "ap75", "mask_ap", "mask_ap50", "mask_ap75")
NAMES = {key: key.replace("_", " ").replace("ap", "AP") for key in MEASURES}


def _measured(results: Sequence[Trained]) -> list[str]:
    """The figures that at least one training has."""
    return [key for key in NAMES if any(found.metrics.get(key) is not None for found in results)]


def write_pruned(results: Sequence[Trained], folder: Path) -> str:
    """Write `pruned.csv` and `pruned.png` into the folder; returns the table."""
    if not results:
        return f"{folder}: nothing is trained yet"
    atomic_write(folder / "pruned.csv", to_csv(results).encode())
    atomic_write(folder / "pruned.png", curve_png(results))
    return f"{to_table(results)}\n\nTable and curve: {folder / 'pruned.csv'} {folder / 'pruned.png'}"


def to_csv(results: Sequence[Trained]) -> str:
    """One line a training."""
    text, keys = io.StringIO(), _measured(results)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["strategy", "random_seed", "keep", "images", "boxes", "class_entropy", "divergence", *keys])
    for found in results:
        figures = [found.metrics.get(key) for key in keys]
        head = [found.strategy, found.random_seed, f"{found.keep:g}", found.images, found.boxes]
        balance = [f"{found.class_entropy:.6f}", f"{found.divergence:.6f}"]
        writer.writerow([*head, *balance, *("" if f is None else f"{f:.6f}" for f in figures)])
    return text.getvalue()


def to_table(results: Sequence[Trained]) -> str:
    """Means over the seeds by share and strategy, and how they differ from random's."""
    keys = [key for key in ("ap", "ap50", "mask_ap", "mask_ap50") if key in _measured(results)]
    lines = [
        f"{'keep':>5} {'strategy':<16}{'seeds':>6}{'images':>8}{'boxes':>8}{'entropy':>9}"
        + "".join(f"{NAMES[key]:>11}" for key in keys)
    ]
    for keep, strategy in _groups(results):
        members = [found for found in results if (found.keep, found.strategy) == (keep, strategy)]
        figures = "".join(f"{_mean(members, key):>11}" for key in keys)
        lines.append(
            f"{keep:>5.0%} {strategy:<16}{len(members):>6}{np.mean([m.images for m in members]):>8.0f}"
            f"{np.mean([m.boxes for m in members]):>8.0f}{np.mean([m.class_entropy for m in members]):>9.3f}{figures}"
        )
    return "\n".join([*lines, "", *_against_random(results, keys)])


def _groups(results: Sequence[Trained]) -> list[tuple[float, str]]:
    """Most kept first, and in each share the strategies in their order."""
    pairs = dict.fromkeys((found.keep, found.strategy) for found in results)
    return sorted(pairs, key=lambda pair: -pair[0])


def _mean(members: Sequence[Trained], key: str) -> str:
    values = [value for found in members if (value := found.metrics.get(key)) is not None]
    return f"{np.mean(values):.3f}" if values else "-"


def _against_random(results: Sequence[Trained], keys: Sequence[str]) -> list[str]:
    """One sentence for each share, strategy and figure."""
    of = {
        (found.keep, found.strategy, found.random_seed): {k: v for k, v in found.metrics.items() if v is not None}
        for found in results
    }
    lines = []
    for keep, strategy in _groups(results):
        if strategy in ("random", FULL_LABEL):
            continue
        parts = []
        for key in keys:
            gaps = [
                mine[key] - other[key]
                for (k, s, seed), mine in of.items()
                if (k, s) == (keep, strategy) and key in mine and key in (other := of.get((keep, "random", seed), {}))
            ]
            interval, _ = t_interval(gaps)
            bounds = f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else ""
            parts.append(f"{NAMES[key]} {np.mean(gaps):+.3f}{bounds}" if gaps else "")
        lines.append(f"{strategy} at {keep:.0%} against random: {', '.join(filter(None, parts)) or 'not trained'}")
    return lines


def curve_png(results: Sequence[Trained]) -> bytes:
    """AP, and mask AP where there are masks, against the share kept: means over seeds, each seed a faint dot."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    keys = [key for key in ("ap", "mask_ap") if key in _measured(results)]
    figure = Figure(figsize=(5.4 * max(1, len(keys)), 4.0), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(keys))))
    names = list(dict.fromkeys(found.strategy for found in results if found.strategy != FULL_LABEL))
    for axes, key in zip(panels, keys, strict=False):
        full = [found.metrics[key] for found in results if found.strategy == FULL_LABEL and found.metrics.get(key)]
        if full:
            axes.axhline(float(np.mean([f for f in full if f])), linestyle="--", color="black", label="everything")
        for number, name in enumerate(names):
            colour = "#7f7f7f" if name == "random" else COLOURS[(number - 1) % len(COLOURS)]
            points = [
                (f.keep, f.metrics[key]) for f in results if f.strategy == name and f.metrics.get(key) is not None
            ]
            shares = sorted({keep for keep, _ in points})
            means = [np.mean([v for k, v in points if k == keep]) for keep in shares]
            axes.plot(*zip(*points, strict=True), ".", color=colour, alpha=0.35)
            axes.plot(shares, means, color=colour, marker=MARKERS[number % len(MARKERS)], linewidth=2, label=name)
        axes.set_xlabel("share of the images kept")
        axes.set_ylabel(f"{NAMES[key]} on the test split")
        axes.set_xticks(sorted({found.keep for found in results if found.strategy != FULL_LABEL}))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        axes.grid(visible=True, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white")
    return buffer.getvalue()
