"""Runs whose figures are written down by hand: as values, and as folders."""

import numpy as np
import yaml

from alloop.budget.charges import RoundCharges
from alloop.files import sha256_of
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import Bought, RoundRecord, open_ledger
from alloop.results.runs import Run
from alloop.testing import fake_annotations
from alloop.values import ImageId, Selection


def run(strategy, boxes, ap, seed=0, **facts):
    """Return a finished run with one round per pair of boxes and AP."""
    rounds = tuple(
        RoundRecord(k, 10 * (k + 1), b, {"ap": a, "ap50": a, "ap75": None}, {"cat": a}, {"train": 1.0})
        for k, (b, a) in enumerate(zip(boxes, ap, strict=True))
    )
    return Run(
        f"{strategy}_seed{seed}",
        strategy,
        seed,
        label_using=False,
        full_label=False,
        rounds=rounds,
        facts=RunFacts(config="{}", strategy=strategy, random_seed=seed, **facts),
        pool_images=100,
        charged=tuple(RoundCharges(k, 10, b, 0, 0.0) for k, b in enumerate(np.diff(boxes, prepend=0))),
    )


def write_run(
    folder,
    strategy,
    seed,
    aps,
    *,
    lr=0.1,
    training=None,
    detector=None,
    data="d",
    seed_set=(1, 2),
    name="cat",
    classes=(),
    pool=(),
    metrics=(),
    **parameters,
):
    """Write a run folder whose rounds have these APs, each with a purchase of three images."""
    config = yaml.safe_dump(
        {
            "detector": {"name": "fcos", **(detector or {})},
            "training": {"lr": lr, **(training or {})},
            "loop": {"rounds": 2},
            "strategy": {"name": strategy, **parameters},
        }
    )
    ids = [ImageId(i) for i in range(1, 30)]
    truth = {i: fake_annotations(i) for i in ids}
    facts = RunFacts(
        config=config,
        config_sha256=sha256_of(config.encode()),
        data=data,
        strategy=strategy,
        random_seed=seed,
        seed_set_sha256=sha256_of(repr(seed_set).encode()),
        rounds_planned=len(aps),
        reference_is_test=True,
        classes=tuple(classes) or None,
        pool_class_boxes=tuple(pool) or None,
    )
    folder.mkdir(parents=True)
    with open_ledger(folder) as ledger:
        ledger.begin(facts, [(i, f"{i}.png", "0") for i in ids], [ImageId(i) for i in seed_set], truth)
        for k, ap in enumerate(aps):
            picked = tuple(ids[5 + 3 * k : 8 + 3 * k])
            bought = Bought(Selection(picked, np.arange(3.0, 0, -1)), [1.0] * 3, truth) if k + 1 < len(aps) else None
            values = {"ap": ap, "ap50": ap, "ap75": None, **dict.fromkeys(metrics, ap)}
            measured = {"values": values, "per_class": {name: ap}}
            ledger.close_round(k, metrics=measured, timings={"train": 2.0}, model_sha256="", diagnostics={})
            if bought:
                ledger.buy(k, bought)


def write_study(folder):
    """Write two seeds of random and of entropy, which is better, and return the folder."""
    for seed in range(2):
        write_run(folder / f"random_seed{seed}", "random", seed, [0.1, 0.2 + 0.01 * seed])
        write_run(folder / f"entropy_seed{seed}", "entropy", seed, [0.1, 0.4])
    return folder


def stored_study(folder, differences):
    """Write five seeds of random and of other strategies, and return the folder.

    `differences` has the mean difference of each strategy from random; its standard deviation is 0.007.
    """
    spread = np.array([-1.2, -0.5, 0.1, 0.4, 1.2])
    spread = (spread - spread.mean()) / spread.std(ddof=1)
    for seed in range(5):
        write_run(folder / f"random_seed{seed}", "random", seed, [0.3 + 0.01 * seed, 0.4])
        for number, (name, difference) in enumerate(differences.items()):
            shift = difference + 0.007 * np.roll(spread, number)[seed]
            write_run(folder / f"{name}_seed{seed}", name, seed, [0.3 + 0.01 * seed + shift, 0.4 + shift])
    return folder
