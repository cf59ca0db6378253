"""Two trainings of the same strategies at equal boxes: `python benchmarks/two_recipes.py ONE OTHER [ap|ap50]`.

ONE and OTHER are folders of studies that differ in a setting of the training, which `alloop compare` refuses to mix.
Runs are paired by strategy and seed. Printed are, for each strategy, the mean gap ONE minus OTHER on the range of boxes
that both cover after one purchase, with Student's interval over the seeds, the gap at the end, and the seconds of
training per run.
"""

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from alloop.results.gaps import common_range, curve_of, gap
from alloop.results.runs import Run, find_runs
from alloop.results.statistics import t_interval


def runs_of(folder: Path) -> dict[tuple[str, int], Run]:
    """Return the runs of a study by strategy and seed."""
    runs = [run for run in find_runs([folder]) if run.rounds and not run.full_label and not run.replicate]
    return {(run.strategy, run.random_seed): run for run in runs}


def text(values: list[float]) -> str:
    """Return a mean with its interval."""
    interval, _ = t_interval(values)
    within = "" if interval is None else f" ({interval[0]:+.4f} to {interval[1]:+.4f})"
    return f"{np.mean(values):+.4f}{within}"


def main(one: Path, other: Path, metric: Literal["ap", "ap50"]) -> None:
    ours, theirs = runs_of(one), runs_of(other)
    for strategy in dict.fromkeys(name for name, _ in ours):
        seeds = [seed for name, seed in ours if name == strategy and (name, seed) in theirs]
        pairs = [(ours[strategy, seed], theirs[strategy, seed]) for seed in seeds]
        gaps = []
        for a, b in pairs:
            curves = curve_of(a, metric), curve_of(b, metric)
            within = common_range(curves)
            assert within is not None
            gaps.append(gap(*curves, within))
        trained = [np.mean([sum(r.timings["train"] for r in run.rounds) for run in side]) for side in zip(*pairs)]  # noqa: B905
        print(
            f"{strategy}, {len(seeds)} seeds: {metric} {text([g.mean() for g in gaps])}, at the end "
            f"{text([g[-1] for g in gaps])}; training {trained[0]:.0f} s and {trained[1]:.0f} s a run"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), "ap50" if sys.argv[3:] == ["ap50"] else "ap")
