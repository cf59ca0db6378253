"""The loop: train on what is labeled, evaluate, query the strategy, ask the oracle, book it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from alloop.config import ExperimentConfig
from alloop.costs import Amount, Purchase, buy
from alloop.data.images import FolderImages
from alloop.data.pixels import PixelCache
from alloop.data.records import annotation_sha256
from alloop.data.splits import Split
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.protocol import Detector
from alloop.errors import ConfigError
from alloop.evaluation.coco_ap import Metrics, evaluate
from alloop.experiment import Experiment, environment, prepare, training_key
from alloop.files import run_lock, sha256_of
from alloop.ledger import Bought, Ledger, RoundRecord, open_ledger
from alloop.oracles.simulated import Oracle, SimulatedOracle
from alloop.pool import Pool, seed_set_order
from alloop.progress import Progress
from alloop.query import Need, Query
from alloop.shared_models import SharedModel, SharedModels
from alloop.strategy import checked_selection
from alloop.training.batches import TrainingBatches
from alloop.training.schedule import total_steps
from alloop.training.supervised import load_weights_of, train, weights_of
from alloop.values import Annotations, ImageId, Selection


@dataclass
class Timings:
    """Seconds by step of one round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Measure a step."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[step] = round(self.seconds.get(step, 0.0) + time.monotonic() - started, 4)


def run_experiment(
    config: ExperimentConfig,
    out: Path,
    table: Mapping[str, str],
    *,
    shared: Path | None = None,
    progress: Progress | None = None,
) -> list[RoundRecord]:
    """Run one experiment in a folder, or go on with it; a finished one does nothing.

    Args:
        config: the experiment.
        out: the run folder.
        table: strategies by name, for example `strategies.TABLE`.
        shared: folder of models shared with other runs.
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
            begin_run(experiment, ledger, oracle, progress)
        elif recorded["data"] != experiment.splits.fingerprint():
            msg = f"{out}: the data differ from those this run began with; restore them, or start a new run"
            raise ConfigError(msg)
        images = experiment.splits.train.images
        if isinstance(images, FolderImages):
            images.expected = ledger.image_hashes()
        caches = _pixel_caches(experiment)
        while (round_ := ledger.open_round()) is not None:
            run_round(experiment, ledger, oracle, caches, round_, SharedModels(shared) if shared else None, progress)
        return ledger.rounds()


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


def begin_run(experiment: Experiment, ledger: Ledger, oracle: Oracle, progress: Progress) -> None:
    """Hash the pool, draw the seed set, book both."""
    config, train_split = experiment.config, experiment.splits.train
    images: list[tuple[ImageId, str, str]] = []
    for done, (image_id, record) in enumerate(sorted(train_split.dataset.images.items()), start=1):
        images.append((image_id, record.file_name, train_split.images.sha256(image_id)))
        progress.step("hashing images", done, len(train_split.dataset.images))
    order = seed_set_order(train_split.dataset.images, config.random_seed)
    answers = oracle.annotate(order)
    purchase = buy(((i, len(answers[i])) for i in order), config.loop.seed_set, ledger.spent(), config.loop.budget)
    text = config.to_yaml()
    facts = {
        "config": text,
        "config_sha256": sha256_of(text.encode()),
        "data": experiment.splits.fingerprint(),
        "strategy": config.strategy.name,
        "random_seed": str(config.random_seed),
        "seed_set_sha256": sha256_of(repr(purchase.image_ids).encode()),
        "budget": str(config.loop.budget or ""),
        "rounds_planned": str(config.loop.rounds),
        "label_using": str(getattr(experiment.strategy, "annotations", "predicted") == "true").lower(),
        "reference_is_test": str(experiment.splits.shared).lower(),
        **environment(experiment),
    }
    ledger.begin(facts, images, purchase.image_ids, answers)


def _pixel_caches(experiment: Experiment) -> dict[str, PixelCache]:
    """One cache for the pool (at the largest training scale) and one each for scoring the pool and the test split."""
    detector, training = experiment.config.detector, experiment.config.training
    limit = int(training.cache_gib * 2**30)

    def cache(split: Split, short_side: int) -> PixelCache:
        return PixelCache(split.images, sorted(split.dataset.images), short_side, detector.long_side, limit)

    scoring = cache(experiment.splits.train, detector.short_side)
    largest = max((detector.short_side, *training.short_sides))
    same = largest == detector.short_side
    return {
        "pool": scoring,
        "training": scoring if same else cache(experiment.splits.train, largest),
        "test": cache(experiment.splits.test, detector.short_side),
    }


def run_round(
    experiment: Experiment,
    ledger: Ledger,
    oracle: Oracle,
    caches: Mapping[str, PixelCache],
    round_: int,
    shared: SharedModels | None,
    progress: Progress,
) -> None:
    """One round, booked in one transaction at its end. May be stopped anywhere and run again."""
    config, timings, labeled = experiment.config, Timings(), ledger.labeled()
    detector, metrics = trained_and_evaluated(experiment, ledger, caches, round_, labeled, shared, timings, progress)
    bought: Bought | None = None
    if round_ + 1 < config.loop.rounds:
        with timings.of("query"):
            bought = query_and_ask(experiment, ledger, oracle, caches, round_, labeled, detector, progress)
    sha256 = {path: digest for path, digest, _ in ledger.files(round_)}[model_path(round_)]
    notes = bought.selection.notes if bought else {}
    with timings.of("book"):
        spent = ledger.spent()
    ledger.close_round(
        round_, metrics=metrics, timings=timings.seconds, model_sha256=sha256, notes=notes, bought=bought
    )
    values = metrics["values"]
    figures = "  ".join(f"{k.upper()} {values[k]:.3f}" for k in ("ap", "ap50") if values[k] is not None)
    progress.say(
        f"round {round_ + 1}/{config.loop.rounds}: {spent.images} images, {spent.boxes} boxes, {figures} "
        f"({sum(timings.seconds.values()):.0f} s)"
    )


def model_path(round_: int) -> str:
    """Where the final weights of a round lie in the run folder."""
    return f"models/round_{round_:03d}.safetensors"


def trained_and_evaluated(
    experiment: Experiment,
    ledger: Ledger,
    caches: Mapping[str, PixelCache],
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    shared: SharedModels | None,
    timings: Timings,
    progress: Progress,
) -> tuple[Detector, dict[str, Any]]:
    """The detector of a round and its figures: from the shared models where they have it, else made now."""
    if shared is None:
        detector = _trained(experiment, ledger, caches, round_, labeled, timings, progress)
        with timings.of("evaluate"):
            return detector, _evaluated(experiment, caches, detector, progress)
    key = sha256_of(
        json.dumps(
            training_key(experiment, round_, {i: annotation_sha256(a) for i, a in labeled.items()}), sort_keys=True
        ).encode()
    )
    with shared.working_on(key):
        found = shared.get(key)
        if found is None:
            detector = _trained(experiment, ledger, caches, round_, labeled, timings, progress)
            with timings.of("evaluate"):
                metrics = _evaluated(experiment, caches, detector, progress)
            shared.put(key, SharedModel(weights_of(detector.module), metrics))
            return detector, metrics
    ledger.store(model_path(round_), found.weights, round_)
    detector = experiment.new_detector(round_)
    load_weights_of(detector.module, found.weights)
    detector.module.to(experiment.device)
    return detector, found.metrics


class _Checkpoints:
    """Checkpoints inside one round's training, recorded in the ledger."""

    def __init__(self, ledger: Ledger, round_: int) -> None:
        self._ledger, self._round = ledger, round_

    def _recorded(self) -> list[str]:
        return [path for path, _, step in self._ledger.files(self._round) if step is not None]

    def load(self) -> bytes | None:
        """The newest recorded state."""
        paths = self._recorded()
        return self._ledger.stored(paths[-1]) if paths else None

    def save(self, state: bytes, step: int) -> None:
        """Record a state, then drop the older ones."""
        older = self._recorded()
        path = f"checkpoints/round_{self._round:03d}_step_{step:08d}.safetensors"
        self._ledger.store(path, state, self._round, step)
        for name in older:
            if name != path:
                self._ledger.drop(name)

    def clear(self) -> None:
        """Drop all."""
        for name in self._recorded():
            self._ledger.drop(name)


def _trained(
    experiment: Experiment,
    ledger: Ledger,
    caches: Mapping[str, PixelCache],
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    timings: Timings,
    progress: Progress,
) -> Detector:
    """Train, or load what this round has already trained."""
    config, detector = experiment.config, experiment.new_detector(round_)
    stored = ledger.stored(model_path(round_))
    if stored is not None:
        load_weights_of(detector.module, stored)
        detector.module.to(experiment.device)
        return detector
    checkpoints = _Checkpoints(ledger, round_)
    steps = total_steps(config.training, len(labeled))
    batches = TrainingBatches(
        caches["training"],
        experiment.splits.train.images,
        labeled,
        random_seed=config.random_seed,
        round_=round_,
        batch_size=config.training.batch_size,
        flip=config.training.flip,
        short_sides=config.training.short_sides,
        long_side=config.detector.long_side,
        with_masks=Need.MASKS in detector.gives,
        device=experiment.device,
    )
    name = f"round {round_ + 1}: training on {len(labeled)} images"
    with timings.of("train"):
        train(
            detector,
            batches,
            config.training,
            steps=steps,
            random_seed=config.random_seed,
            round_=round_,
            device=experiment.device,
            store=checkpoints,
            progress=lambda step, loss: progress.step(name, step, steps, f"loss {loss:.3f}"),
        )
    ledger.store(model_path(round_), weights_of(detector.module), round_)
    checkpoints.clear()
    return detector


def fitted(
    experiment: Experiment, split: Split, cache: PixelCache, detector: Detector, progress: Progress
) -> FittedTorchDetector:
    """The detector as it may be shown to a strategy: it holds pixels and weights, no annotation."""
    return FittedTorchDetector(
        detector,
        split.images,
        cache,
        split.dataset.class_names,
        batch_size=experiment.config.training.batch_size,
        device=experiment.device,
        progress=progress.step,
    )


def _evaluated(
    experiment: Experiment, caches: Mapping[str, PixelCache], detector: Detector, progress: Progress
) -> dict[str, Any]:
    """AP on the test split."""
    test = experiment.splits.test
    ids = sorted(test.dataset.images)
    found = dict(zip(ids, fitted(experiment, test, caches["test"], detector, progress).detections(ids), strict=True))
    names = test.dataset.class_names
    metrics = _tree(evaluate(test.dataset.annotations, found, names))
    if Need.MASKS in detector.gives:
        sizes = {i: (record.width, record.height) for i, record in test.dataset.images.items()}
        masks = evaluate(test.dataset.annotations, found, names, "segm", sizes)
        metrics["values"] |= {f"mask_{name}": value for name, value in masks.values.items()}
    return metrics


def _tree(metrics: Metrics) -> dict[str, Any]:
    return {"values": dict(metrics.values), "per_class": dict(metrics.per_class)}


def query_and_ask(
    experiment: Experiment,
    ledger: Ledger,
    oracle: Oracle,
    caches: Mapping[str, PixelCache],
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    detector: Detector,
    progress: Progress,
) -> Bought | None:
    """Ask the strategy, then the oracle; None when the pool or the budget has run out."""
    config, spent = experiment.config, ledger.spent()
    pool = Pool.of(experiment.splits.train.dataset.images, labeled.keys())
    budget = config.loop.budget
    left = None if budget is None else budget.number - spent.of(budget.unit)
    if not pool.unlabeled or left == 0:
        return None
    seen = fitted(experiment, experiment.splits.train, caches["pool"], detector, progress)
    mean_boxes = spent.boxes / max(1, spent.images)
    count = first_count(config.loop.query_size, mean_boxes, len(pool.unlabeled))
    while True:
        query = Query(
            round=round_,
            unlabeled=pool.unlabeled,
            labeled=MappingProxyType(dict(labeled)),
            reference=MappingProxyType(dict(experiment.splits.reference.dataset.annotations)),
            detector=seen,
            count=count,
            budget_left=left,
            random_seed=config.random_seed,
        )
        selection = checked_selection(experiment.strategy, query)
        answers = oracle.annotate(selection.image_ids)
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
