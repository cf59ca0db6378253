"""A study as a Markdown table: `python benchmarks/table.py STUDY [METRIC]`.

One line per strategy, of the figures that `alloop compare` gives: means over the seeds of the last round, boxes per
bought image, the difference from random at equal boxes with its interval, corrected p and verdict, the gap at the right
end of the range, the boxes saved where there is a verdict, and the verdict where images are counted instead of boxes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from alloop.budget.prices import IMAGES
from alloop.results.compare import Versus, compared
from alloop.results.names import Metric
from alloop.results.runs import Run, find_runs

HEADS = ["strategy", "seeds", "boxes per bought image", "boxes", "last", "at equal boxes", "p, Holm", "verdict"]
HEADS += ["at the end", "boxes saved", "at equal images"]


def bought(run: Run) -> float:
    """Return the mean number of boxes of the images that the strategy selected."""
    first, last = run.rounds[0], run.rounds[-1]
    return (last.boxes - first.boxes) / max(1, last.images - first.images)


def within(interval: tuple[float, float] | None, form: str = "+.3f") -> str:
    """Return an interval in brackets; nothing where there is none."""
    return "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"


def row(runs: Sequence[Run], versus: Versus | None, by_images: Versus | None, metric: str) -> str:
    """Return the line of one strategy; random has no `versus`."""
    cells = [
        f"`{runs[0].strategy}`",
        f"{len(runs)}",
        f"{np.mean([bought(run) for run in runs]):.2f}",
        f"{np.mean([run.rounds[-1].boxes for run in runs]):.0f}",
        f"{np.mean([run.rounds[-1].metrics[metric] for run in runs]):.3f}",
    ]
    if versus is None or by_images is None:
        return "| " + " | ".join([*cells, *[""] * (len(HEADS) - len(cells))]) + " |"
    saved = "" if versus.saving is None else f"{versus.saving:+.0%}{within(versus.saving_interval, '+.0%')}"
    cells += [
        f"{versus.difference:+.3f}{within(versus.interval)}",
        "" if versus.p_holm is None else f"{versus.p_holm:.2g}",
        versus.verdict,
        f"{versus.end_difference:+.3f}{within(versus.end_interval)}",
        saved,
        f"{by_images.difference:+.3f}, {by_images.verdict}",
    ]
    return "| " + " | ".join(cells) + " |"


def main(folder: Path, metric: Metric) -> None:
    runs = [run for run in find_runs([folder]) if run.rounds and not run.full_label and not run.replicate]
    by_boxes = {one.strategy: one for one in compared(runs, metric).versus}
    by_images = {one.strategy: one for one in compared(runs, metric, cost=IMAGES).versus}
    print(f"| {' | '.join(HEADS)} |\n{'|---' * len(HEADS)}|")
    names = dict.fromkeys(run.strategy for run in runs)
    for name in sorted(names, key=lambda n: -by_boxes[n].difference if n in by_boxes else -np.inf):
        own = [run for run in runs if run.strategy == name]
        print(row(own, by_boxes.get(name), by_images.get(name), metric))
    detectable = [one.detectable for one in by_boxes.values() if one.detectable is not None]
    if detectable:
        print(f"\nA verdict needs a difference of {min(detectable):.3f} to {max(detectable):.3f}.")


if __name__ == "__main__":
    main(Path(sys.argv[1]), next((name for name in get_args(Metric) if name in sys.argv[2:]), "ap"))
