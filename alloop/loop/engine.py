"""The loop: train on what is labeled, evaluate, query the strategy, ask the oracle, book it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from alloop.budget.amounts import Purchase, buy
from alloop.config.reading import ExperimentConfig, parse_config, refuse_people, with_all_labels
from alloop.data.images import FolderImages
from alloop.data.splits import load_splits
from alloop.detectors.protocol import Detector
from alloop.errors import ConfigError
from alloop.files import run_lock, sha256_of
from alloop.ledger.requests import AnnotationRequests
from alloop.ledger.store import Bought, RoundRecord, open_ledger
from alloop.loop.experiment import environment, prepare
from alloop.loop.fitting import RunContext, Timings, fitted, model_path, pixel_caches, restored, trained_and_evaluated
from alloop.loop.people import Asked, asked_of_people, collect, first_batch, note_revisions, people_of
from alloop.loop.pool import seed_set_named, seed_set_order
from alloop.loop.querying import QuerySession, asking, first_count
from alloop.loop.shared_models import SharedModels
from alloop.oracles.simulated import SimulatedOracle
from alloop.progress import Progress
from alloop.query import FittedDetector
from alloop.strategy import uses_labels
from alloop.values import Annotations, ImageId, Selection


def run_experiment(
    config: ExperimentConfig,
    out: str | Path,
    table: Mapping[str, str],
    *,
    shared: str | Path | None = None,
    replicate: int = 0,
    accept_partial: bool = False,
    progress: Progress | None = None,
) -> list[RoundRecord]:
    """Run one experiment in a folder, or go on with it; a finished one does nothing.

    Args:
        config: the experiment.
        out: the run folder.
        table: strategies by name, for example `strategies.TABLE`.
        shared: folder of models shared with other runs.
        replicate: 1, 2, ... for a run that repeats another to see by how much they differ.
        accept_partial: where people are asked, close the round that waits with what came back.
        progress: where to tell how it goes.

    Raises:
        WaitingError: people have not answered yet.
        AlloopError: see `alloop.errors`; nothing booked is lost.
    """
    out = Path(out)
    progress = progress or Progress(quiet=True)
    with run_lock(out), open_ledger(out) as ledger:
        recorded = ledger.facts()
        if recorded:
            refuse_other_config(out, recorded, config)
            if ledger.open_round() is None and AnnotationRequests(ledger).pending() is None:
                progress.say(f"{out}: finished, {len(ledger.rounds())} rounds; nothing to do")
                return ledger.rounds()
        experiment = prepare(config, table, recorded)
        people = people_of(experiment)
        oracle = SimulatedOracle(experiment.splits.train.dataset.annotations)
        models = SharedModels(Path(shared)) if shared else None
        context = RunContext(experiment, ledger, oracle, pixel_caches(experiment), models, progress)
        if not recorded:
            asked = first_batch(context, table) if people and not config.loop.seed_images else None
            begin_run(context, replicate, asked)
        elif recorded["data"] != experiment.splits.fingerprint():
            msg = f"{out}: the data differ from those this run began with; restore them, or start a new run"
            raise ConfigError(msg)
        images = experiment.splits.train.images
        if isinstance(images, FolderImages):
            images.expected = ledger.image_hashes()
        while True:
            if people and (waiting := AnnotationRequests(ledger).pending()) is not None:
                note_revisions(context, people, waiting)
                collect(context, people, accept_partial=accept_partial)
                accept_partial = False
            if (round_ := ledger.open_round()) is None:
                return ledger.rounds()
            run_round(context, round_)


def trained_on_everything(
    config: ExperimentConfig,
    out: Path,
    table: Mapping[str, str],
    *,
    shared: Path | None = None,
    progress: Progress | None = None,
) -> FittedDetector:
    """The detector of an experiment, trained once on the whole pool in a run of its own, for a strategy that prunes.

    Raises:
        AlloopError: as `run_experiment`.
    """
    refuse_people(config, "pruning")
    config = with_all_labels(config, len(load_splits(config.data).train.dataset.images))
    progress = progress or Progress(quiet=True)
    run_experiment(config, out, table, shared=shared, progress=progress)
    with open_ledger(out) as ledger:
        experiment = prepare(config, table, ledger.facts())
        oracle = SimulatedOracle(experiment.splits.train.dataset.annotations)
        context = RunContext(experiment, ledger, oracle, pixel_caches(experiment), None, progress)
        return fitted(context, experiment.splits.train, context.caches["pool"], restored(context, 0), 0)


def refuse_other_config(out: Path, recorded: Mapping[str, str], config: ExperimentConfig) -> None:
    """A run goes on only under the config it began with.

    Raises:
        ConfigError: naming each key that differs.
    """
    # keys that this version added have their defaults in a config that was recorded before
    before, now = (_flat(c.model_dump(mode="json")) for c in (parse_config(yaml.safe_load(recorded["config"])), config))
    free = {"training.checkpoint_seconds", "training.cache_gib"}
    differing = sorted(key for key in (before.keys() | now.keys()) - free if before.get(key) != now.get(key))
    if differing:
        key = differing[0]
        msg = (
            f"{out}: this run began with {key} = {before.get(key)!r}, the config now says {now.get(key)!r} "
            f"({len(differing)} keys differ: {', '.join(differing[:5])}). Another experiment needs another --out."
        )
        raise ConfigError(msg)


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for key, value in tree.items() for k, v in _flat(value, f"{prefix}{key}.").items()}


def begin_run(context: RunContext, replicate: int = 0, asked: Asked | None = None) -> None:
    """Hash the pool, then book it with the seed set, or with the question to people for one."""
    experiment, ledger = context.experiment, context.ledger
    config, train_split = experiment.config, experiment.splits.train
    images: list[tuple[ImageId, str, str]] = []
    for done, (image_id, record) in enumerate(sorted(train_split.dataset.images.items()), start=1):
        images.append((image_id, record.file_name, train_split.images.sha256(image_id)))
        context.progress.step("hashing images", done, len(train_split.dataset.images))
    seed_set, answers = ((), {}) if asked else _seed_set(context)
    text = config.to_yaml()
    facts = {
        "config": text,
        "config_sha256": sha256_of(text.encode()),
        "data": experiment.splits.fingerprint(),
        "classes": json.dumps(train_split.dataset.class_names),
        **_pool_classes(context),
        "replay": str(replicate),
        "strategy": config.strategy.name,
        "random_seed": str(config.random_seed),
        "seed_set_sha256": sha256_of(repr(asked.selection.image_ids if asked else seed_set).encode()),
        "oracle": config.oracle.name,
        "budget": str(config.loop.budget or ""),
        "rounds_planned": str(config.loop.rounds),
        "label_using": str(uses_labels(experiment.strategy)).lower(),
        "reference_is_test": str(experiment.splits.shared).lower(),
        **environment(experiment),
    }
    with ledger.transaction():
        ledger.begin(facts, images, seed_set, answers)
        if asked:
            AnnotationRequests(ledger).ask(0, asked.selection, asked.predicted_boxes, asked.shown)


def _pool_classes(context: RunContext) -> dict[str, str]:
    """Boxes of each class in the pool and images that hold it, which nobody knows where people are asked."""
    simulated, pool = context.experiment.config.oracle.name == "simulated", context.experiment.splits.train.dataset
    return {
        "pool_class_boxes": json.dumps(pool.class_counts() if simulated else None),
        "pool_class_images": json.dumps(pool.class_images() if simulated else None),
    }


def _seed_set(context: RunContext) -> tuple[tuple[ImageId, ...], dict[ImageId, Annotations]]:
    """The images whose labels are there from the beginning, named or drawn at random, with all answers."""
    config, pool = context.experiment.config, context.experiment.splits.train.dataset.images
    named = config.loop.seed_images
    order = seed_set_named(named, pool) if named else seed_set_order(pool, config.random_seed)
    answers = context.oracle.annotate(order)
    ranking = ((i, len(answers[i])) for i in order)
    purchase = buy(ranking, config.loop.seed_set, context.ledger.spent(), config.loop.budget)
    if not purchase.image_ids:
        msg = f"loop.budget: {config.loop.budget} does not pay for the first image of the seed set; raise it"
        raise ConfigError(msg)
    return purchase.image_ids, answers


def run_round(context: RunContext, round_: int) -> None:
    """One round, booked in one transaction at its end. May be stopped anywhere and run again."""
    config, ledger, timings = context.experiment.config, context.ledger, Timings()
    labeled = ledger.labeled()
    detector, metrics = trained_and_evaluated(context, round_, labeled, timings)
    bought: Bought | None = None
    asked: Asked | None = None
    if round_ + 1 < config.loop.rounds:
        with timings.of("query"):
            if config.oracle.name == "simulated":
                bought = query_and_ask(context, round_, labeled, detector)
            else:
                asked = asked_of_people(context, round_, labeled, detector)
    sha256 = {path: digest for path, digest, _ in ledger.files(round_)}[model_path(round_)]
    chosen = bought or asked
    notes = chosen.selection.diagnostics if chosen else {}
    spent = ledger.spent()
    with ledger.transaction():
        ledger.close_round(
            round_, metrics=metrics, timings=timings.seconds, model_sha256=sha256, diagnostics=notes, bought=bought
        )
        if asked:
            AnnotationRequests(ledger).ask(round_ + 1, asked.selection, asked.predicted_boxes, asked.shown)
    values = metrics["values"]
    figures = "  ".join(f"{k.upper()} {values[k]:.3f}" for k in ("ap", "ap50") if values[k] is not None)
    context.progress.say(
        f"round {round_} of 0 to {config.loop.rounds - 1}: {spent.images} images, {spent.boxes} boxes, {figures} "
        f"({sum(timings.seconds.values()):.0f} s)"
    )


def query_and_ask(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Annotations], detector: Detector
) -> Bought | None:
    """Ask the strategy, then the oracle; None when the pool or the budget has run out."""
    loop, spent = context.experiment.config.loop, context.ledger.spent()
    question = asking(context, round_, labeled, detector)
    if question is None:
        return None
    count = first_count(loop.query_size, question.mean_boxes, question.unlabeled)
    while True:
        selection = question.select(count)
        answers = context.oracle.annotate(selection.image_ids)
        ranking = ((i, len(answers[i])) for i in selection.image_ids)
        purchase = buy(ranking, loop.query_size, spent, loop.budget)
        if purchase.quota_met or purchase.budget_exhausted or count == question.unlabeled:
            return _booked(question, selection, purchase, answers)
        count = min(2 * count, question.unlabeled)


def _booked(
    question: QuerySession, selection: Selection, purchase: Purchase, answers: Mapping[ImageId, Annotations]
) -> Bought | None:
    taken = len(purchase.image_ids)
    if not taken:
        return None
    predicted = None if selection.predicted_boxes is None else selection.predicted_boxes[:taken]
    cut = Selection(purchase.image_ids, selection.utilities[:taken], predicted, selection.diagnostics)
    return Bought(cut, question.predicted_boxes(cut), {i: answers[i] for i in purchase.image_ids})
