"""Semi-supervised rounds: the effect of each module of CI-SSOD, and the cost of a step.

    python benchmarks/semi_supervised.py speed
    python benchmarks/semi_supervised.py study configs/digits_long_tailed.yaml OUT [workers]

`study` trains six recipes under three seeds, resumes where it was stopped, and prints a table: AP of all classes, of
the majority and of the minority (the rarest third of the classes of the pool) on the test split.
"""

import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from setting import CONFIGS
from speed import best, line

from alloop.config.reading import ExperimentConfig, changed, load_config
from alloop.detectors.protocol import Target
from alloop.detectors.seeding import seeded
from alloop.loop.context import pixel_caches
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from alloop.loop.pool import seed_set_order
from alloop.randomness import RoundSeed
from alloop.results.class_balance import class_balance
from alloop.results.compare import compared
from alloop.results.runs import read_run
from alloop.results.statistics import t_interval
from alloop.training.batches import TrainingBatches, UnlabeledBatches
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.weights import WeightAverage
from strategies import TABLE

MODULES = ("gradient_balance", "class_thresholds", "resampling")
SEEDS = (0, 1, 2)
Job = tuple[ExperimentConfig, str, int, Path]  # experiment, recipe, seed, run folder
RFS = 0.1  # images of classes that fewer of the labeled images hold are repeated
# recipe -> (repeat factor sampling of the labeled images, modules of CI-SSOD; None: no teacher)
RECIPES: dict[str, tuple[bool, Sequence[str] | None]] = {
    "supervised": (False, None),
    "+ RFS": (True, None),
    "+ teacher": (False, ()),
    "+ GbR": (False, MODULES[:1]),
    "+ GbR + GbT": (False, MODULES[:2]),
    "+ all": (True, MODULES),
}


def recipe(config: ExperimentConfig, name: str, seed: int) -> ExperimentConfig:
    """Return the experiment under one recipe; everything else stays as in its file."""
    repeated, modules = RECIPES[name]
    semi = config.training.semi_supervised
    assert semi is not None, "give a config with training.semi_supervised"
    settings = None if modules is None else semi.model_dump() | {module: module in modules for module in MODULES}
    changes = {
        "random_seed": seed,
        "training.threads": 1,
        "training.repeat_threshold": RFS if repeated else None,
        "training.semi_supervised": settings,
    }
    return changed(config, changes)


def trained(job: Job) -> str:
    """Train one recipe under one seed and return the name of its folder."""
    config, name, seed, folder = job
    run_experiment(recipe(config, name, seed), folder, TABLE)
    return folder.name


def study(path: Path, out: Path, workers: int) -> None:
    """Train what is not trained yet, and print the table."""
    config = load_config(path)
    finish(trained, [(config, name, seed, run_folder(out, name, seed)) for name in RECIPES for seed in SEEDS], workers)
    table(out, RECIPES)


def finish(train: Callable[[Job], str], jobs: Sequence[Job], workers: int) -> None:
    """Run or resume every job."""
    with ProcessPoolExecutor(workers) as pool:
        for number, name in enumerate(pool.map(train, jobs)):
            print(f"{number + 1} of {len(jobs)}: {name}", file=sys.stderr, flush=True)


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return out / f"{name.replace('+', '').replace(' ', '')}_{seed}"


def table(out: Path, names: Iterable[str]) -> None:
    """Print means over the seeds, and the minority against that of the plain teacher."""
    print(
        "| recipe | AP | majority | minority | minority minus `+ teacher` (95 %) "
        "| precision | recall | recall, minority | GbR weight, minority |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    base = [figures(run_folder(out, "+ teacher", seed))[2] for seed in SEEDS]
    for name in names:
        rows = [figures(run_folder(out, name, seed)) for seed in SEEDS]
        cells = [_mean([row[key] for row in rows], "%.3f") for key in range(3)]
        gaps = [row[2] - b for row, b in zip(rows, base, strict=True) if row[2] is not None and b is not None]
        interval, _ = t_interval(gaps)
        within = "" if interval is None else f" ({interval[0]:+.3f} to {interval[1]:+.3f})"
        cells.append("" if name == "+ teacher" else f"{np.mean(gaps):+.3f}{within}")
        cells += [_mean([row[key] for row in rows], "%.2f") for key in range(3, 7)]
        print(f"| {name} | {' | '.join(cells)} |")


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form % statistics.mean(known) if known else ""


def figures(folder: Path) -> list[float | None]:
    """Return AP of all, majority and minority classes, and figures of the pseudo-boxes.

    These are precision, recall and the minority's recall over the second half of the training, and the mean weight that
    GbR gave the minority's classes over the whole training (1 is no preference).
    """
    run = read_run(folder)
    balance = class_balance(compared([run], "ap"))
    assert balance is not None
    aps = [balance.strategies[0].ap_of(names) for names in (balance.names, *list(balance.groups.values())[:2])]
    log = run.rounds[-1].training_log
    if not log:
        return [*aps, None, None, None, None]
    half = log[len(log) // 2 :]
    pseudo, right, true = (np.sum([record[key] for record in half], axis=0) for key in ("pseudo", "right", "true"))
    rare = [balance.names.index(name) for name in balance.rare]
    shares = [right.sum() / max(1, pseudo.sum()), right.sum() / true.sum(), right[rare].sum() / true[rare].sum()]
    weights = [record["class_weights"][k] for record in log if "class_weights" in record for k in rare]
    return [*aps, *shares, statistics.mean(weights) if weights else None]


def objective_on_digits() -> tuple[Any, Any, SemiSupervisedObjective, TrainingBatches, UnlabeledBatches]:
    """Return student, teacher, objective and both batches of the long-tailed digits, past burn-in and warm-up."""
    eager = {"training.semi_supervised.burn_in": 0.0, "training.semi_supervised.warm_up": 0.0}
    config = changed(load_config(CONFIGS / "digits_long_tailed.yaml"), eager)
    experiment = prepare(config, TABLE)
    pool, training, semi = experiment.splits.train, config.training, config.training.semi_supervised
    assert semi is not None
    order, cache = seed_set_order(pool.dataset.images, 0), pixel_caches(experiment).pool
    seed = RoundSeed(0, 0)
    labeled = TrainingBatches(
        cache,
        {i: pool.dataset.annotations[i] for i in order[:300]},
        training.model_copy(update={"flip": 0.0, "short_sides": (), "repeat_threshold": None}),
        seed,
        with_masks=False,
        device=experiment.device,
    )
    unlabeled = UnlabeledBatches(
        cache,
        order[300:],
        seed,
        batch_size=semi.unlabeled_ratio * training.batch_size,
        device=experiment.device,
    )
    student, teacher = experiment.new_detector(0), experiment.new_detector(0)
    objective = SemiSupervisedObjective(
        student,
        teacher,
        labeled,
        unlabeled,
        training.model_copy(update={"flip": 0.0}),
        classes=10,
        steps=1000,
        device=experiment.device,
        classification_terms=experiment.detector.classification_terms,
    )
    objective.begin(WeightAverage(student.module, training.ema).tensors)
    student.module.train()
    return student, teacher, objective, labeled, unlabeled


def speed(steps: int = 8) -> None:
    """Time a step against its parts: the student on both batches, forward and backward; the teacher's detections."""
    student, teacher, objective, labeled, unlabeled = objective_on_digits()

    def backward(terms: dict[str, torch.Tensor]) -> None:
        student.module.zero_grad(set_to_none=True)
        torch.stack([term.sum() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]

    def ours() -> None:
        for step in range(1, steps + 1):
            with seeded(step):
                backward(objective(step)[0])
            objective.end_step(step)

    ready = [(labeled(step), unlabeled(step)[0]) for step in range(1, steps + 1)]
    targets_of_others = [Target(boxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.tensor([1]))] * len(ready[0][1])

    def parts() -> None:
        for (images, targets, _), others in ready:
            teacher.detect(others)
            with seeded(0):
                terms = student.losses(images, targets)
                terms |= {f"unlabeled_{k}": v for k, v in student.losses(others, targets_of_others).items()}
            backward(terms)

    ours()
    parts()
    whole, sum_of_parts = (seconds / steps for seconds in best(ours, parts, repetitions=7))
    text = f"step {1000 * whole:.0f} ms, its parts {1000 * sum_of_parts:.0f} ms"
    line("step", text, whole / sum_of_parts, "at most 1.15", met=whole / sum_of_parts <= 1.15)
    regions = 32 * len(ready[0][1])  # as many as the config samples per image
    logits, labels = torch.randn(regions, 11), torch.randint(0, 11, (regions,))

    def bookkeeping() -> None:
        objective.balanced(1)(logits, labels, torch.ones(regions))
        objective.balanced(0)(logits, labels, None)
        objective.balance.step(2.0)

    share = best(bookkeeping, repetitions=50)[0] / whole
    text = f"matrices, weights and their step {1000 * share * whole:.2f} ms"
    line("GbR", text, share, "under 0.03 of a step", met=share < 0.03)


if __name__ == "__main__":
    if sys.argv[1:2] == ["study"]:
        study(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]) if len(sys.argv) > 4 else 2)
    else:
        speed()
