"""GbR beside the three methods of `training.class_balance` that CI-SSOD compares it with (Li et al. 2023, table 5).

    python benchmarks/class_balance.py configs/digits_long_tailed.yaml OUT [workers] [key=value ...]

Trains a student with a plain teacher, and the same with each method, under five seeds; resumes where it was stopped;
and prints a table: AP of all classes, of the majority and of the minority (the rarest third of the classes of the pool)
on the test split, each with its mean difference from the plain teacher and the 95 % interval by t over the seeds.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from semi_supervised import MODULES, Job, figures, finish, run_folder

from alloop.config.reading import ExperimentConfig, changed, load_config
from alloop.loop.engine import run_experiment
from alloop.results.statistics import t_interval
from strategies import TABLE

SEEDS = (0, 1, 2, 3, 4)
BASE = "+ teacher"
# recipe -> (whether GbR is on, the block class_balance)
RECIPES: dict[str, tuple[bool, dict[str, Any] | None]] = {
    BASE: (False, None),
    "+ GbR": (True, None),
    "+ logit adjustment": (False, {"name": "logit_adjustment"}),
    "+ classifier retraining": (False, {"name": "classifier_retraining"}),
    "+ classifier retraining, share 1": (False, {"name": "classifier_retraining", "share": 1.0}),
    "+ Equalization Loss v2": (False, {"name": "equalization_loss"}),
}


def recipe(config: ExperimentConfig, name: str, seed: int) -> ExperimentConfig:
    """Return the experiment under one recipe; everything else stays as in its file."""
    gradient_balance, block = RECIPES[name]
    semi = config.training.semi_supervised
    assert semi is not None, "give a config with training.semi_supervised"
    modules = dict.fromkeys(MODULES, False) | {"gradient_balance": gradient_balance}
    changes = {
        "random_seed": seed,
        "training.threads": 1,
        "training.semi_supervised": semi.model_dump() | modules,
        "training.class_balance": block,
    }
    return changed(config, changes)


def trained(job: Job) -> str:
    """Train one recipe under one seed and return the name of its folder."""
    config, name, seed, folder = job
    run_experiment(recipe(config, name, seed), folder, TABLE)
    return folder.name


def study(path: Path, out: Path, workers: int, overrides: Sequence[str]) -> None:
    """Train what is not trained yet, and print the table."""
    config = load_config(path, overrides)
    jobs = [(config, name, seed, run_folder(out, name, seed)) for seed in SEEDS for name in RECIPES]
    finish(trained, jobs, workers)
    table(out)


def table(out: Path) -> None:
    """Print means over the seeds, and the differences from the plain teacher."""
    groups = ("AP", "majority", "minority")
    print(f"| recipe | {' | '.join(f'{group} | difference (95 %)' for group in groups)} |")
    print("|---|" + "---|" * 2 * len(groups))
    base = _aps(out, BASE)
    for name in RECIPES:
        aps, cells = _aps(out, name), []
        for column in range(len(groups)):
            gaps = (aps - base)[:, column]
            interval, _ = t_interval([float(gap) for gap in gaps])
            within = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
            cells += [f"{aps[:, column].mean():.3f}", "" if name == BASE else f"{gaps.mean():+.3f}{within}"]
        print(f"| {name} | {' | '.join(cells)} |")


def _aps(out: Path, name: str) -> np.ndarray:
    """Return AP of all, majority and minority classes, `[seeds, 3]`."""
    return np.array([figures(run_folder(out, name, seed))[:3] for seed in SEEDS], dtype=np.float64)


if __name__ == "__main__":
    workers = next((int(text) for text in sys.argv[3:] if text.isdigit()), 1)
    study(Path(sys.argv[1]), Path(sys.argv[2]), workers, [text for text in sys.argv[3:] if "=" in text])
