"""A study as a Markdown table: `python benchmarks/table.py STUDY [ap|ap50]`.

One line per strategy, means over its seeds: boxes and AP of the last round, boxes per bought image by its queries,
10^4 AP / boxes, AP minus random's at equal boxes (mean over the range that both cover), boxes saved at the best
AP that both reach.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from alloop.results.compare import mean_curve, paired_gaps
from alloop.results.curves import ap_at, efficiency, saving
from alloop.results.runs import Run, find_runs
from alloop.results.statistics import t_interval


def bought(run: Run) -> float:
    """Return the mean number of boxes of the images that the strategy selected."""
    first, last = run.rounds[0], run.rounds[-1]
    return (last.boxes - first.boxes) / max(1, last.images - first.images)


def row(runs: Sequence[Run], name: str, metric: Literal["ap", "ap50"]) -> str:
    strategy_runs = [run for run in runs if run.strategy == name]
    boxes, ap = mean_curve(runs, name, metric)
    other_boxes, other_ap = mean_curve(runs, "random", metric)
    gaps = paired_gaps(runs, name, "random", metric)
    interval, _ = t_interval(gaps)
    within = "" if interval is None or name == "random" else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
    saved = saving(boxes, ap, other_boxes, other_ap, target=min(float(ap.max()), float(other_ap.max())))
    end = min(boxes[-1], other_boxes[-1])
    mine, theirs = ap_at(boxes, ap, end), ap_at(other_boxes, other_ap, end)
    cells = [
        f"`{name}`",
        f"{len(strategy_runs)}",
        f"{np.mean([bought(run) for run in strategy_runs]):.2f}",
        f"{boxes[-1]:.0f}",
        f"{ap[-1]:.3f}",
        f"{efficiency(boxes[-1], ap[-1]):.2f}",
        "" if name == "random" else f"{np.mean(gaps):+.3f}{within}",
        "" if name == "random" or mine is None or theirs is None else f"{mine - theirs:+.3f} at {end:.0f}",
        "" if name == "random" or saved is None else f"{saved:+.0%}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(folder: Path, metric: Literal["ap", "ap50"]) -> None:
    runs = [run for run in find_runs([folder]) if run.rounds and not run.full_label and not run.replicate]
    names = list(dict.fromkeys(run.strategy for run in runs))
    label = metric.upper()
    heads = ["strategy", "seeds", "boxes per bought image", "boxes", label, f"10^4 {label} / boxes"]
    heads += ["minus random at equal boxes, mean of the curve", "at its end", "boxes saved"]
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for name in names:
        print(row(runs, name, metric))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "ap50" if sys.argv[2:] == ["ap50"] else "ap")
