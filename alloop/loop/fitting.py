"""The detector of one round: trained, or found already trained, and measured on the test split."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from alloop.data.annotation_json import annotation_sha256
from alloop.data.pixels import PixelCache
from alloop.data.splits import Split
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.protocol import Detector
from alloop.errors import DamagedFileError
from alloop.evaluation.coco_ap import evaluate
from alloop.files import read_verified, sha256_of
from alloop.ledger.store import Ledger
from alloop.loop.experiment import Experiment, training_key
from alloop.loop.shared_models import SharedModel, SharedModels
from alloop.oracles.simulated import Oracle
from alloop.progress import Progress
from alloop.query import Need
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches, UnlabeledBatches
from alloop.training.schedule import snapshot_steps, total_steps
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.supervised import SupervisedObjective, train
from alloop.training.weights import load_weights_of, weights_of
from alloop.values import Annotations, ImageId


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


def pixel_caches(experiment: Experiment) -> dict[str, PixelCache]:
    """The pool at the scoring scale and at the largest training scale, the test and the reference split."""
    detector, training = experiment.config.detector, experiment.config.training
    limit = int(training.cache_gib * 2**30)

    def cache(split: Split, short_side: int) -> PixelCache:
        return PixelCache(split.images, sorted(split.dataset.images), short_side, detector.long_side, limit)

    scoring = cache(experiment.splits.train, detector.short_side)
    largest = max((detector.short_side, *training.short_sides))
    same = largest == detector.short_side
    test = cache(experiment.splits.test, detector.short_side)
    return {
        "pool": scoring,
        "training": scoring if same else cache(experiment.splits.train, largest),
        "test": test,
        "reference": test if experiment.splits.shared else cache(experiment.splits.reference, detector.short_side),
    }


@dataclass(frozen=True)
class RunContext:
    """What the steps of a round work with."""

    experiment: Experiment
    ledger: Ledger
    oracle: Oracle
    caches: Mapping[str, PixelCache]
    shared: SharedModels | None
    progress: Progress


def model_path(round_: int) -> str:
    """Where the final weights of a round lie in the run folder."""
    return f"models/round_{round_:03d}.safetensors"


def training_log_path(round_: int) -> str:
    """Where the course of a semi-supervised training lies: one record an epoch."""
    return f"models/round_{round_:03d}_course.json"


def snapshot_path(round_: int, step: int) -> str:
    """Where a state along the training of a round lies in the run folder."""
    return f"snapshots/round_{round_:03d}_step_{step:08d}.safetensors"


def _snapshots(experiment: Experiment, images: int) -> tuple[int, ...]:
    wanted = Need.SNAPSHOTS in experiment.strategy.needs
    return snapshot_steps(experiment.config.training, images, wanted=wanted)


def trained_and_evaluated(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Annotations], timings: Timings
) -> tuple[Detector, dict[str, Any]]:
    """The detector of a round and its figures: from the shared models where they have it, else made now."""
    if context.shared is None or _snapshots(context.experiment, len(labeled)):  # a shared model is its last state alone
        detector = _trained(context, round_, labeled, timings)
        return detector, _evaluated(context, round_, detector, timings)
    hashes = {image_id: annotation_sha256(truth) for image_id, truth in labeled.items()}
    key = sha256_of(json.dumps(training_key(context.experiment, round_, hashes), sort_keys=True).encode())
    with context.shared.working_on(key):
        found = context.shared.get(key)
        if found is None:
            detector = _trained(context, round_, labeled, timings)
            metrics = _evaluated(context, round_, detector, timings)
            context.shared.put(key, SharedModel(weights_of(detector.module), metrics))
            return detector, metrics
    context.ledger.store(model_path(round_), found.weights, round_)
    return restored(context, round_), found.metrics


def restored(context: RunContext, round_: int) -> Detector:
    """The detector of a round that is trained already.

    Raises:
        DamagedFileError: its stored weights are not what was recorded.
    """
    weights = context.ledger.stored(model_path(round_))
    if weights is None:
        msg = f"{model_path(round_)}: no trained detector is recorded for round {round_}"
        raise DamagedFileError(msg)
    detector = context.experiment.new_detector(round_)
    load_weights_of(detector.module, weights)
    detector.module.to(context.experiment.device)
    return detector


class _Checkpoints:
    """Checkpoints inside one round's training, recorded in the ledger."""

    def __init__(self, ledger: Ledger, round_: int, snapshots: tuple[int, ...]) -> None:
        self._ledger, self._round = ledger, round_
        self.snapshot_steps = snapshots[:-1]  # the last is the trained detector itself

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

    def snapshot(self, weights: bytes, step: int) -> None:
        """Keep a state for strategies that ask about the course of the training."""
        self._ledger.store(snapshot_path(self._round, step), weights, self._round)

    def clear(self) -> None:
        """Drop all."""
        for name in self._recorded():
            self._ledger.drop(name)


def _trained(context: RunContext, round_: int, labeled: Mapping[ImageId, Annotations], timings: Timings) -> Detector:
    """Train, or load what this round has already trained."""
    if context.ledger.stored(model_path(round_)) is not None:
        return restored(context, round_)
    experiment, progress = context.experiment, context.progress
    config, detector = experiment.config, experiment.new_detector(round_)
    checkpoints = _Checkpoints(context.ledger, round_, _snapshots(experiment, len(labeled)))
    steps = total_steps(config.training, len(labeled))
    seed = RoundSeed(config.random_seed, round_)
    batches = TrainingBatches(
        context.caches["training"],
        labeled,
        config.training,
        seed,
        with_masks=Need.MASKS in detector.gives,
        device=experiment.device,
    )
    taught = _taught(context, round_, detector, batches, steps)
    name = f"round {round_}: training on {len(labeled)} images"
    with timings.of("train"):
        train(
            detector,
            taught or SupervisedObjective(detector, batches),
            config.training,
            steps=steps,
            seed=seed,
            device=experiment.device,
            store=checkpoints,
            progress=lambda step, loss: progress.step(name, step, steps, f"loss {loss:.3f}"),
        )
    if taught is not None:
        context.ledger.store(
            training_log_path(round_), json.dumps(taught.training_log, allow_nan=False).encode(), round_
        )
    context.ledger.store(model_path(round_), weights_of(detector.module), round_)
    checkpoints.clear()
    return detector


def _taught(
    context: RunContext, round_: int, detector: Detector, batches: TrainingBatches, steps: int
) -> SemiSupervisedObjective | None:
    """A teacher's lessons on what is not labeled; None where none are wanted or nothing is left to learn from."""
    experiment, config = context.experiment, context.experiment.config
    train_split, semi = experiment.splits.train, config.training.semi_supervised
    unlabeled = sorted(train_split.dataset.images.keys() - set(batches.image_ids))
    if semi is None or not unlabeled:
        return None
    return SemiSupervisedObjective(
        detector,
        experiment.new_detector(round_),
        batches,
        UnlabeledBatches(
            context.caches["pool"],
            unlabeled,
            RoundSeed(config.random_seed, round_),
            batch_size=semi.unlabeled_ratio * config.training.batch_size,
            device=experiment.device,
        ),
        semi,
        classes=len(train_split.dataset.class_names),
        steps=steps,
        flip=config.training.flip,
        device=experiment.device,
        truth=train_split.dataset.annotations.__getitem__ if config.oracle.name == "simulated" else None,
    )


def fitted(
    context: RunContext, split: Split, cache: PixelCache, detector: Detector, round_: int | None = None
) -> FittedTorchDetector:
    """The detector as it may be shown to a strategy: it holds pixels and weights, no annotation.

    With `round_`, it also knows the states kept along the training of that round.
    """
    known = context.ledger.files(round_) if round_ is not None else []
    states = [
        partial(read_verified, context.ledger.folder / path, sha256)
        for path, sha256, _ in known
        if path.startswith("snapshots/")
    ]
    return FittedTorchDetector(
        detector,
        split.images,
        cache,
        split.dataset.class_names,
        batch_size=context.experiment.config.training.batch_size,
        device=context.experiment.device,
        progress=context.progress.step,
        states=states,
    )


def _evaluated(context: RunContext, round_: int, detector: Detector, timings: Timings) -> dict[str, Any]:
    """AP on the test split, and the course of the training where one was kept."""
    test = context.experiment.splits.test
    ids, names = sorted(test.dataset.images), test.dataset.class_names
    with timings.of("evaluate"):
        predictions = fitted(context, test, context.caches["test"], detector).detections(ids)
        detections = dict(zip(ids, predictions, strict=True))
        metrics = evaluate(test.dataset.annotations, detections, names)
        if Need.MASKS in detector.gives:
            sizes = {i: (record.width, record.height) for i, record in test.dataset.images.items()}
            metrics = metrics.with_masks(evaluate(test.dataset.annotations, detections, names, "segm", sizes))
    log = context.ledger.stored(training_log_path(round_))
    return replace(metrics, training_log=None if log is None else json.loads(log)).to_json()
