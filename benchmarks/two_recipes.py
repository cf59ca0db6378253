"""Two trainings of the same strategies at equal boxes: `python benchmarks/two_recipes.py ONE OTHER [ap|ap50]`.

ONE and OTHER are folders of studies, or the CSV files of their reports, that differ in a setting of the training, which
`alloop compare` refuses to mix. Runs are paired by strategy and seed. Printed are, for each strategy, the mean of the
metric after each round of both, the mean gap ONE minus OTHER on the range of boxes that both cover after one purchase,
with Student's interval over the seeds, and the gap at the end.
"""

import csv
import sys
from pathlib import Path
from typing import Literal

import numpy as np

from alloop.results.gaps import Curve, common_range, curve_of, distinct, gap
from alloop.results.runs import find_runs
from alloop.results.statistics import t_interval

Curves = dict[tuple[str, int], Curve]


def curves_of(path: Path, metric: Literal["ap", "ap50"]) -> Curves:
    """Return the curves of a study by strategy and seed."""
    if path.is_dir():
        runs = [run for run in find_runs([path]) if run.rounds and not run.full_label and not run.replicate]
        return {(run.strategy, run.random_seed): curve_of(run, metric) for run in runs}
    points: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for row in csv.DictReader(path.read_text().splitlines()):
        of_run = points.setdefault((row["strategy"], int(row["random_seed"])), [])
        of_run.append((float(row["boxes"]), float(row[metric])))
    return {key: distinct(*np.array(rows).T) for key, rows in points.items()}


def text(values: list[float]) -> str:
    """Return a mean with its interval."""
    interval, _ = t_interval(values)
    within = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    return f"{np.mean(values):+.4f}{within}"


def main(one: Path, other: Path, metric: Literal["ap", "ap50"]) -> None:
    """Print the comparison."""
    ours, theirs = curves_of(one, metric), curves_of(other, metric)
    for strategy in dict.fromkeys(name for name, _ in ours):
        pairs = [(ours[key], theirs[key]) for key in ours if key[0] == strategy and key in theirs]
        gaps = []
        for curves in pairs:
            within = common_range(curves)
            assert within is not None
            gaps.append(gap(*curves, within))
        for name, side in zip((one, other), zip(*pairs, strict=True), strict=True):
            rounds = min(len(curve.ap) for curve in side)
            means = np.mean([curve.ap[:rounds] for curve in side], axis=0)
            print(f"{strategy}, {name}: {metric} after each round {', '.join(f'{value:.3f}' for value in means)}")
        print(
            f"{strategy}, {len(pairs)} seeds: {metric} {text([float(g.mean()) for g in gaps])}, at the end "
            f"{text([float(g[-1]) for g in gaps])}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "ap50" if sys.argv[3:] == ["ap50"] else "ap")
