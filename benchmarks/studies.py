"""How fast studies are compared and reported, what a study costs beyond its runs, and how often verdicts are wrong.

`python benchmarks/studies.py [compare] [report] [overhead] [right]`, all by default.
"""

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import yaml
from speed import demo, line

from alloop.budget.charges import RoundCharges
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import Bought, RoundRecord, open_ledger, run_folders
from alloop.report.page import write_report
from alloop.report.text import to_table
from alloop.results.compare import compare_runs, compared
from alloop.results.runs import Run, find_runs
from alloop.results.statistics import LEVEL, detectable
from alloop.studies import arms
from alloop.studies.grid import run_study
from alloop.testing import fake_annotations
from alloop.values import ImageId, Selection
from strategies import TABLE

STRATEGIES, SEEDS, ROUNDS, IMAGES = 10, 50, 10, 80
CLASSES = ["cat", "dog", "bird"]


def write_study(folder: Path) -> None:
    """Write 500 ledgers of 10 rounds, 80 images per round, as the engine writes them, with AP drawn at random."""
    random = np.random.default_rng(0)
    ids = [ImageId(1_000_000 + i) for i in range(IMAGES * ROUNDS)]
    truth = {i: fake_annotations(i) for i in ids}
    config = yaml.safe_load(demo().to_yaml())
    for seed in range(SEEDS):
        for number in range(STRATEGIES):
            name = "random" if number == 0 else f"strategy{number}"
            order = [ids[row] for row in random.permutation(len(ids))]
            facts = RunFacts(
                config=yaml.safe_dump({**config, "random_seed": seed, "strategy": {"name": name}}),
                data="d",
                classes=("cat", "dog", "bird"),
                pool_class_boxes=(10, 5, 2),
                strategy=name,
                random_seed=seed,
                seed_set_sha256=str(seed),
                rounds_planned=ROUNDS,
            )
            with open_ledger(_made(folder / f"{name}_seed{seed}")) as ledger:
                ledger.begin(facts, [(i, f"{i}.png", "0") for i in ids], order[:IMAGES], truth)
                for k in range(ROUNDS):
                    chosen = tuple(order[(k + 1) * IMAGES : (k + 2) * IMAGES])
                    ap = 0.3 + 0.02 * k + 0.01 * random.normal() + 0.001 * number
                    ledger.close_round(
                        k,
                        metrics={
                            "values": {"ap": ap, "ap50": ap + 0.2, "ap75": ap},
                            "per_class": dict.fromkeys(CLASSES, ap),
                        },
                        timings={"train": 10.0, "query": 1.0},
                        model_sha256="",
                        diagnostics={},
                        bought=Bought(Selection(chosen, np.ones(len(chosen))), [1.0] * len(chosen), truth)
                        if chosen
                        else None,
                    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def rows_alone(folder: Path) -> None:
    """Time the floor: open every ledger, read its rounds and its charges by round."""
    for run in run_folders(folder):
        connection = sqlite3.connect(run / "run.db")
        connection.execute("SELECT metrics FROM round").fetchall()
        connection.execute("SELECT round, SUM(boxes) FROM charge GROUP BY round").fetchall()
        connection.close()


def comparing(folder: Path) -> None:
    floor = timed(lambda: rows_alone(folder))
    seconds = timed(lambda: to_table(compare_runs([folder])))
    text = f"500 runs of 10 rounds {seconds:.2f} s, their rows alone {floor:.2f} s"
    line("compare", text, seconds / floor, "under 10 s", met=seconds < 10)
    for test in ("permutation", "wilcoxon"):
        seconds = timed(lambda test=test: to_table(compare_runs([folder], "ap", test)))
        line("compare", f"with --test {test} {seconds:.2f} s", seconds / floor, "under 10 s", met=seconds < 10)


def reporting(folder: Path) -> None:
    floor = timed(lambda: rows_alone(folder))
    page = folder / "report.html"
    seconds = timed(lambda: write_report(compare_runs([folder], "ap50"), page, "500 runs"))
    size = page.stat().st_size / 1e6
    text = f"500 runs of 10 rounds {seconds:.1f} s, {size:.2f} MB, their rows alone {floor:.2f} s"
    line("report", text, seconds / floor, "under 20 s and 5 MB", met=seconds < 20 and size < 5)


def overhead() -> None:
    """Time a study in one process against its runs, and those against the time inside their rounds."""
    config, walls, run_arm = demo(**{"training.threads": 1, "loop.rounds": 3}), [], arms.run_arm

    def timed_arm(job: arms.Job) -> str | None:
        started = time.perf_counter()
        reason = run_arm(job)
        walls.append(time.perf_counter() - started)
        return reason

    with tempfile.TemporaryDirectory() as name, mock.patch.object(arms, "run_arm", timed_arm):
        out, names = Path(name), ["entropy", "k_center"]
        seconds = timed(lambda: run_study(config, out, TABLE, strategies=names, seeds=[0], quiet=True))
        inside = sum(sum(record.timings.values()) for run in find_runs([out]) for record in run.rounds)
    share = seconds / sum(walls) - 1
    text = f"study {seconds:.1f} s, its runs {sum(walls):.1f} s, their rounds {inside:.1f} s"
    line("overhead", text, share, "at most 0.02 beyond the runs", met=share <= 0.02)


def simulated(strategy: str, seed: int, shift: float, random: np.random.Generator) -> Run:
    """Return a curve of five rounds; seeds differ by 0.01 and rounds by 0.005 (standard deviations)."""
    ap = 0.3 + 0.04 * np.arange(5) + shift + 0.01 * random.normal() + 0.005 * random.normal(size=5)
    boxes = np.cumsum(random.poisson(200, 5))
    rounds = [
        RoundRecord(k, 80 * (k + 1), int(b), {"ap": a, "ap50": a, "ap75": a}, {}, {})
        for k, (b, a) in enumerate(zip(boxes, ap, strict=True))
    ]
    charged = tuple(RoundCharges(k, 80, int(b), 0, 0.0) for k, b in enumerate(np.diff(boxes, prepend=0)))
    return Run(
        f"{strategy}{seed}",
        strategy,
        seed,
        label_using=False,
        full_label=False,
        rounds=tuple(rounds),
        facts=RunFacts(config="{}"),
        pool_images=0,
        charged=charged,
    )


def right(studies: int = 20_000, seeds: int = 5) -> None:
    """Simulate studies of four strategies: all alike, and one better by what five seeds can detect."""
    random = np.random.default_rng(0)
    spread = np.std([_gap_of_a_pair(random) for _ in range(2000)], ddof=1)
    # what a t test at 5 % finds four times of five, at this spread
    shape = np.array([-1.2, -0.5, 0.1, 0.4, 1.2])
    shift = detectable(((shape - shape.mean()) / shape.std(ddof=1) * spread).tolist()) or 0.0
    false = alone = detected = 0
    for _ in range(studies):
        alike = [simulated(name, s, 0.0, random) for name in ("random", "a", "b", "c", "d") for s in range(seeds)]
        versus = compared(alike, "ap").versus
        false += any(v.verdict != "inconclusive" for v in versus)
        better = [simulated("random", s, 0.0, random) for s in range(seeds)]
        better += [simulated("a", s, shift, random) for s in range(seeds)]
        (one,) = compared(better, "ap").versus
        detected += one.verdict == "better"
        alone += (versus[0].p_value or 1) < 1 - LEVEL
    deviation = float(np.sqrt(0.05 * 0.95 / studies))
    text = f"{studies} studies of four strategies alike random, {seeds} seeds: any verdict in {false / studies:.3f}"
    most = f"at most 0.05, two deviations of the simulation {2 * deviation:.3f}"
    line("false", text, false / studies, most, met=false / studies <= 0.05 + 2 * deviation)
    text = f"one strategy by itself, uncorrected, in {alone / studies:.3f}"
    line("false", text, alone / studies, most, met=alone / studies <= 0.05 + 2 * deviation)
    text = f"a strategy better by {shift:.4f} AP is detected in {detected / studies:.3f} (computed 0.800)"
    line("power", text, detected / studies, "0.8", met=abs(detected / studies - 0.8) <= 0.05)


def _gap_of_a_pair(random: np.random.Generator) -> float:
    pair = [simulated(name, 0, 0.0, random) for name in ("random", "a")]
    return compared(pair, "ap").versus[0].difference


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["compare", "report", "overhead", "right"]
    if {"compare", "report"} & set(wanted):
        with tempfile.TemporaryDirectory() as folder:
            write_study(Path(folder))
            if "compare" in wanted:
                comparing(Path(folder))
            if "report" in wanted:
                reporting(Path(folder))
    if "overhead" in wanted:
        overhead()
    if "right" in wanted:
        right()
