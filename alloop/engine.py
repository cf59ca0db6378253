"""The loop: train on what is labeled, evaluate, query the strategy, ask the oracle, book it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from alloop.config import ExperimentConfig, with_all_labels
from alloop.costs import Amount, Purchase, buy
from alloop.data.images import FolderImages
from alloop.data.splits import load_splits
from alloop.detectors.protocol import Detector
from alloop.errors import ConfigError
from alloop.experiment import Experiment, environment, prepare
from alloop.files import run_lock, sha256_of
from alloop.fitting import Timings, Workplace, fitted, model_path, pixel_caches, restored, trained_and_evaluated
from alloop.ledger import Bought, Ledger, RoundRecord, open_ledger
from alloop.oracles.simulated import Oracle, SimulatedOracle
from alloop.pool import Pool, seed_set_named, seed_set_order
from alloop.progress import Progress
from alloop.query import FittedDetector, Query
from alloop.shared_models import SharedModels
from alloop.strategy import checked_selection, uses_labels
from alloop.values import Annotations, ImageId, Selection


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    table: Mapping[str, str],
    *,
    shared: Path | None = None,
    replay: int = 0,
    progress: Progress | None = None,
) -> list[RoundRecord]:
    """Run one experiment in a folder, or go on with it; a finished one does nothing.

    Args:
        config: the experiment.
        out: the run folder.
        table: strategies by name, for example `strategies.TABLE`.
        shared: folder of models shared with other runs.
        replay: 1, 2, ... for a run that repeats another to see by how much they differ.
        progress: where to tell how it goes.

    Raises:
        AlloopError: see `alloop.errors`; nothing booked is lost.
    """
    progress = progress or Progress(quiet=True)
    with run_lock(out), open_ledger(out) as ledger:
        recorded = ledger.facts()
        if recorded:
            refuse_other_config(out, recorded, config)
            if ledger.open_round() is None:
                progress.say(f"{out}: finished, {len(ledger.rounds())} rounds; nothing to do")
                return ledger.rounds()
        experiment = prepare(config, table, recorded)
        oracle = SimulatedOracle(experiment.splits.train.dataset.annotations)
        if not recorded:
            begin_run(experiment, ledger, oracle, progress, replay)
        elif recorded["data"] != experiment.splits.fingerprint():
            msg = f"{out}: the data differ from those this run began with; restore them, or start a new run"
            raise ConfigError(msg)
        images = experiment.splits.train.images
        if isinstance(images, FolderImages):
            images.expected = ledger.image_hashes()
        models = SharedModels(shared) if shared else None
        place = Workplace(experiment, ledger, oracle, pixel_caches(experiment), models, progress)
        while (round_ := ledger.open_round()) is not None:
            run_round(place, round_)
        return ledger.rounds()


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
    config = with_all_labels(config, len(load_splits(config.data).train.dataset.images))
    progress = progress or Progress(quiet=True)
    run_experiment(config, out, table, shared=shared, progress=progress)
    with open_ledger(out) as ledger:
        experiment = prepare(config, table, ledger.facts())
        oracle = SimulatedOracle(experiment.splits.train.dataset.annotations)
        place = Workplace(experiment, ledger, oracle, pixel_caches(experiment), None, progress)
        return fitted(place, experiment.splits.train, place.caches["pool"], restored(place, 0), 0)


def refuse_other_config(out: Path, recorded: Mapping[str, str], config: ExperimentConfig) -> None:
    """A run goes on only under the config it began with.

    Raises:
        ConfigError: naming each key that differs.
    """
    before, now = _flat(yaml.safe_load(recorded["config"])), _flat(yaml.safe_load(config.to_yaml()))
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


def begin_run(experiment: Experiment, ledger: Ledger, oracle: Oracle, progress: Progress, replay: int = 0) -> None:
    """Hash the pool, draw the seed set, book both."""
    config, train_split = experiment.config, experiment.splits.train
    images: list[tuple[ImageId, str, str]] = []
    for done, (image_id, record) in enumerate(sorted(train_split.dataset.images.items()), start=1):
        images.append((image_id, record.file_name, train_split.images.sha256(image_id)))
        progress.step("hashing images", done, len(train_split.dataset.images))
    pool = train_split.dataset.images
    named = config.loop.seed_images
    order = seed_set_named(named, pool) if named else seed_set_order(pool, config.random_seed)
    answers = oracle.annotate(order)
    purchase = buy(((i, len(answers[i])) for i in order), config.loop.seed_set, ledger.spent(), config.loop.budget)
    if not purchase.image_ids:
        msg = f"loop.budget: {config.loop.budget} does not pay for the first image of the seed set; raise it"
        raise ConfigError(msg)
    text = config.to_yaml()
    facts = {
        "config": text,
        "config_sha256": sha256_of(text.encode()),
        "data": experiment.splits.fingerprint(),
        "classes": json.dumps(train_split.dataset.class_names),
        "pool_class_boxes": json.dumps(train_split.dataset.class_counts()),
        "replay": str(replay),
        "strategy": config.strategy.name,
        "random_seed": str(config.random_seed),
        "seed_set_sha256": sha256_of(repr(purchase.image_ids).encode()),
        "budget": str(config.loop.budget or ""),
        "rounds_planned": str(config.loop.rounds),
        "label_using": str(uses_labels(experiment.strategy)).lower(),
        "reference_is_test": str(experiment.splits.shared).lower(),
        **environment(experiment),
    }
    ledger.begin(facts, images, purchase.image_ids, answers)


def run_round(place: Workplace, round_: int) -> None:
    """One round, booked in one transaction at its end. May be stopped anywhere and run again."""
    config, ledger, timings = place.experiment.config, place.ledger, Timings()
    labeled = ledger.labeled()
    detector, metrics = trained_and_evaluated(place, round_, labeled, timings)
    bought: Bought | None = None
    if round_ + 1 < config.loop.rounds:
        with timings.of("query"):
            bought = query_and_ask(place, round_, labeled, detector)
    sha256 = {path: digest for path, digest, _ in ledger.files(round_)}[model_path(round_)]
    notes = bought.selection.notes if bought else {}
    spent = ledger.spent()
    ledger.close_round(
        round_, metrics=metrics, timings=timings.seconds, model_sha256=sha256, notes=notes, bought=bought
    )
    values = metrics["values"]
    figures = "  ".join(f"{k.upper()} {values[k]:.3f}" for k in ("ap", "ap50") if values[k] is not None)
    place.progress.say(
        f"round {round_ + 1}/{config.loop.rounds}: {spent.images} images, {spent.boxes} boxes, {figures} "
        f"({sum(timings.seconds.values()):.0f} s)"
    )


def query_and_ask(
    place: Workplace, round_: int, labeled: Mapping[ImageId, Annotations], detector: Detector
) -> Bought | None:
    """Ask the strategy, then the oracle; None when the pool or the budget has run out."""
    experiment, spent = place.experiment, place.ledger.spent()
    config = experiment.config
    pool = Pool.of(experiment.splits.train.dataset.images, labeled.keys())
    budget = config.loop.budget
    left = None if budget is None else budget.number - spent.of(budget.unit)
    if not pool.unlabeled or left == 0:
        return None
    seen = fitted(place, experiment.splits.train, place.caches["pool"], detector, round_)
    train_split = experiment.splits.train
    hidden = MappingProxyType(dict(train_split.dataset.annotations) if uses_labels(experiment.strategy) else {})
    beside = fitted(place, experiment.splits.reference, place.caches["reference"], detector)
    mean_boxes = spent.boxes / max(1, spent.images)
    count = first_count(config.loop.query_size, mean_boxes, len(pool.unlabeled))
    while True:
        query = Query(
            round=round_,
            unlabeled=pool.unlabeled,
            labeled=MappingProxyType(dict(labeled)),
            sizes=MappingProxyType({i: (r.width, r.height) for i, r in train_split.dataset.images.items()}),
            truth=hidden,
            reference=MappingProxyType(dict(experiment.splits.reference.dataset.annotations)),
            detector=seen,
            reference_detector=beside,
            count=count,
            budget_left=left,
            progress=place.progress.step,
            random_seed=config.random_seed,
        )
        selection = checked_selection(experiment.strategy, query)
        answers = place.oracle.annotate(selection.image_ids)
        purchase = buy(((i, len(answers[i])) for i in selection.image_ids), config.loop.query_size, spent, budget)
        if purchase.quota_met or purchase.budget_exhausted or count == len(pool.unlabeled):
            return _booked(selection, purchase, answers, mean_boxes)
        count = min(2 * count, len(pool.unlabeled))


def first_count(query_size: Amount, mean_boxes: float, unlabeled: int) -> int:
    """How many images to have ranked at first: as asked, or enough for the boxes at the mean so far."""
    if query_size.unit == "images":
        return min(query_size.number, unlabeled)
    return min(unlabeled, max(1, round(1.5 * query_size.number / max(mean_boxes, 0.1)) + 8))


def _booked(
    selection: Selection, purchase: Purchase, answers: Mapping[ImageId, Annotations], mean_boxes: float
) -> Bought | None:
    taken = len(purchase.image_ids)
    if not taken:
        return None
    predicted: Sequence[float] = [mean_boxes] * taken
    if selection.predicted_boxes is not None:
        predicted = selection.predicted_boxes[:taken].tolist()
    cut = Selection(purchase.image_ids, selection.utilities[:taken], notes=selection.notes)
    return Bought(cut, predicted, {i: answers[i] for i in purchase.image_ids})
