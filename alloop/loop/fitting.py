"""The detector of one round: trained, or taken from the shared models, and measured on the test split."""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from alloop.class_values import Truth
from alloop.data.annotation_json import annotation_sha256
from alloop.data.pixels import PixelCache
from alloop.data.splits import Split
from alloop.detectors.external import External
from alloop.detectors.frozen_features import computed_by
from alloop.detectors.kept_scores import KeptScores
from alloop.detectors.plugin import DetectorPlugin, PseudoLabelPlugin
from alloop.detectors.protocol import Detector, Network
from alloop.evaluation.metrics import Metrics
from alloop.files import sha256_of
from alloop.loop.class_balancing import balance_afterwards, balanced_objective, reads_sigmoids, retraining_begun
from alloop.loop.context import RunContext, Timings
from alloop.loop.experiment import Experiment, training_key
from alloop.loop.outside import OutsideDetector, asked, restored_outside, wanted_files
from alloop.loop.recorded_data import recorded_contents, refuse_changed_images, splits_by_name
from alloop.loop.round_batches import (
    class_balanced_batches,
    frozen_features,
    training_batches,
    unlabeled_batches,
)
from alloop.loop.round_files import (
    Checkpoints,
    detections_path,
    losses_path,
    model_path,
    model_sha256,
    snapshot_readers,
    trained_weights,
    training_log_path,
)
from alloop.loop.shared_models import SharedModel
from alloop.predictions.fitted import PredictedDetector
from alloop.query import FittedDetector, Need, boxed
from alloop.randomness import RoundSeed
from alloop.tasks.detection import boxes_of
from alloop.training.batches import TrainingBatches
from alloop.training.schedule import lr_at, snapshot_steps, total_steps
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.supervised import SupervisedObjective, train
from alloop.training.weights import load_weights_of, weights_of
from alloop.values import ImageId

RoundDetector = Network | OutsideDetector | PredictedDetector
"""The detector of a round: a network, the answers of another program, or what is known before any training."""


def trained_and_evaluated(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Truth], timings: Timings
) -> tuple[RoundDetector, dict[str, Any]]:
    """Return the detector of a round and its metrics: from the shared models where they have it, else made now."""
    # a shared model is its last state alone, so it cannot serve a strategy that asks for snapshots
    if context.shared is None or _snapshots(context.experiment, len(labeled)):
        return _made(context, round_, labeled, timings)
    hashes = {image_id: annotation_sha256(truth) for image_id, truth in labeled.items()}
    before = model_sha256(context.ledger, round_ - 1) if _continues(context.experiment, round_) else None
    tree = training_key(context.experiment, round_, hashes, recorded_contents(context.ledger), before)
    tree |= wanted_files(context.experiment)
    key = sha256_of(json.dumps(tree, sort_keys=True).encode())
    with context.shared.working_on(key):
        shared = context.shared.get(key)
        if shared is None:
            detector, metrics = _made(context, round_, labeled, timings)
            weights, file = trained_weights(context.ledger, round_), context.ledger.folder / model_path(round_)
            kept, losses = (context.ledger.stored(path(round_)) for path in (detections_path, losses_path))
            context.shared.put(key, SharedModel(weights, metrics, kept, file, losses))
            return detector, metrics
    _refuse_changed_data(context)
    context.ledger.store(model_path(round_), shared.weights, round_, same_as=shared.file)
    for path, data in ((detections_path(round_), shared.detections), (losses_path(round_), shared.losses)):
        if data is not None:
            context.ledger.store(path, data, round_)
    return restored(context, round_), shared.metrics


def restored(context: RunContext, round_: int) -> RoundDetector:
    """Return the detector of a round that is trained already.

    Raises:
        DamagedFileError: its stored weights are not what was recorded.
    """
    if isinstance(context.experiment.detector, External):
        return restored_outside(context, round_)
    weights = trained_weights(context.ledger, round_)
    detector = context.experiment.new_detector(round_)
    load_weights_of(detector.module, weights)
    detector.module.to(context.experiment.device)
    return detector


def fitted(
    context: RunContext, split: Split, cache: PixelCache, detector: RoundDetector, round_: int | None = None
) -> FittedDetector:
    """Return the detector as it may be shown to a strategy: it holds pixels and weights, no annotation.

    With `round_`, it also knows the states kept along the training of that round.
    """
    if isinstance(detector, OutsideDetector):
        return detector.on(split)
    if isinstance(detector, PredictedDetector):
        return detector
    return context.experiment.task.fitted(
        detector,
        split.images,
        cache,
        split.dataset.class_names,
        gives=context.experiment.detector.gives,
        batch_size=context.experiment.config.training.batch_size,
        device=context.experiment.device,
        progress=context.reports_about(split),
        frozen=frozen_features(context, cache, detector),
        scores=_kept_scores(context, cache, detector),
        amp=_scores_in_half(context.experiment),
        states=[] if round_ is None else snapshot_readers(context.ledger, round_),
    )


def _scores_in_half(experiment: Experiment) -> bool:
    return experiment.config.training.amp and experiment.device.type == "cuda"


def _kept_scores(context: RunContext, cache: PixelCache, detector: Network) -> KeptScores:
    """Return where the scores of a detector with these weights are kept."""
    experiment = context.experiment
    identity = [
        sha256_of(weights_of(detector.module)),
        json.dumps(experiment.config.detector.with_siblings(), sort_keys=True, default=str),
        experiment.config.training.frozen_features,
        f"amp {_scores_in_half(experiment)}",
        *_reading(experiment),
        *computed_by(experiment.device),
        *(f"{name} {version(name)}" for name in ("alloop", "torchvision")),
    ]
    return KeptScores(context.scores, cache, identity)


def _reading(experiment: Experiment) -> list[str]:
    """Return how the logits of regions are read, where not by a softmax: it changes scores and no weight."""
    return ["sigmoids"] if reads_sigmoids(experiment.config.training) else []


def _made(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Truth], timings: Timings
) -> tuple[RoundDetector, dict[str, Any]]:
    """Train and evaluate; a round that is trained already is only evaluated."""
    if context.ledger.stored(model_path(round_)) is not None:
        detector = restored(context, round_)
    else:
        with timings.of("train"):
            detector = _trained(context, round_, labeled)
    with timings.of("evaluate"):
        _refuse_changed_data(context)
        metrics = _evaluated(context, round_, detector)
    log = context.ledger.stored(training_log_path(round_))
    return detector, replace(metrics, training_log=None if log is None else json.loads(log)).to_json()


def _refuse_changed_data(context: RunContext) -> None:
    """Refuse to measure a round on other test images than the rounds before, or to go on with another reference."""
    for name, split in splits_by_name(context.experiment.splits).items():
        if name != "train":
            refuse_changed_images(split)


def _snapshots(experiment: Experiment, images: int) -> tuple[int, ...]:
    wanted = Need.SNAPSHOTS in experiment.strategy.needs
    return snapshot_steps(experiment.config.training, images, wanted=wanted)


def _trained(context: RunContext, round_: int, labeled: Mapping[ImageId, Truth]) -> RoundDetector:
    """Train, or go on from the last checkpoint, and record the weights; or let another program do it."""
    if isinstance(context.experiment.detector, External):
        return asked(context, context.experiment.detector, round_, boxed(labeled))
    experiment, ledger, config = context.experiment, context.ledger, context.experiment.config
    detector, steps = _untrained(context, round_), total_steps(config.training, len(labeled))
    checkpoints = Checkpoints(ledger, round_, _snapshots(experiment, len(labeled)))
    batches = training_batches(context, round_, labeled, detector)
    if not retraining_begun(config.training, checkpoints, steps):
        _train(context, round_, detector, batches, checkpoints, steps)
    balance_afterwards(
        detector,
        batches,
        config.training,
        classes=len(experiment.splits.train.dataset.class_names),
        steps=steps,
        seed=RoundSeed(config.random_seed, round_),
        device=experiment.device,
        checkpoints=checkpoints,
        class_balanced=partial(class_balanced_batches, context, labeled, detector),
        progress=context.progress.step,
    )
    ledger.store(model_path(round_), weights_of(detector.module), round_)
    checkpoints.clear()
    for cache in (context.caches.training, context.caches.pool):
        cache.forget_expected()
    return detector


def _continues(experiment: Experiment, round_: int) -> bool:
    """Return whether the training of a round starts from the detector of the round before."""
    return round_ > 0 and experiment.config.training.start == "previous"


def _untrained(context: RunContext, round_: int) -> Network:
    """Return the detector that a training starts from."""
    detector = context.experiment.new_detector(round_)
    if _continues(context.experiment, round_):
        load_weights_of(detector.module, trained_weights(context.ledger, round_ - 1))
    return detector


def _train(
    context: RunContext,
    round_: int,
    detector: Network,
    batches: TrainingBatches,
    checkpoints: Checkpoints,
    steps: int,
) -> None:
    """Train a detector, and record the losses, and the log of a semi-supervised training."""
    experiment, config = context.experiment, context.experiment.config
    if round_ == 0 and config.training.short_sides and frozen_features(context, context.caches.pool, detector):
        context.progress.say("training.short_sides: training at several sizes keeps no features of frozen stages")
    semi_supervised = _semi_supervised(context, round_, detector, batches, steps)
    objective = semi_supervised or SupervisedObjective(detector, batches, steps)
    classes = len(experiment.splits.train.dataset.class_names)
    name = f"round {round_}: training on {len(batches.labels)} images"
    losses = train(
        detector,
        balanced_objective(objective, detector, config.training, classes, experiment.device),
        config.training,
        steps=steps,
        seed=RoundSeed(config.random_seed, round_),
        device=experiment.device,
        store=checkpoints,
        progress=lambda step, loss: context.progress.step(name, step, steps, f"loss {loss:.3f}"),
    )
    context.ledger.store(losses_path(round_), losses.to_csv(partial(lr_at, config.training, steps=steps)), round_)
    if semi_supervised is not None:
        log = json.dumps(semi_supervised.log.records, allow_nan=False)
        context.ledger.store(training_log_path(round_), log.encode(), round_)


def _semi_supervised(
    context: RunContext, round_: int, detector: Network, labeled: TrainingBatches, steps: int
) -> SemiSupervisedObjective | None:
    """Return the objective that also uses unlabeled images; None where it is not wanted or no image is unlabeled."""
    experiment, config = context.experiment, context.experiment.config
    pool, settings = experiment.splits.train, config.training.semi_supervised
    unlabeled = sorted(pool.dataset.images.keys() - set(labeled.image_ids))
    if settings is None or not unlabeled:
        return None
    teacher = experiment.new_detector(round_)
    assert isinstance(detector, Detector)  # the config refuses other tasks
    assert isinstance(teacher, Detector)
    return SemiSupervisedObjective(
        detector,
        teacher,
        labeled,
        unlabeled_batches(context, round_, unlabeled, detector, ratio=settings.unlabeled_ratio),
        config.training,
        classes=len(pool.dataset.class_names),
        steps=steps,
        device=experiment.device,
        classification_terms=_classification_terms(experiment.detector),
        truth=None if experiment.oracle.asks_people else boxes_of(pool).annotations.__getitem__,
    )


def _classification_terms(plugin: DetectorPlugin) -> frozenset[str]:
    """Return the declared names of the loss terms that classify; none where a detector declares none."""
    return plugin.classification_terms if isinstance(plugin, PseudoLabelPlugin) else frozenset()


def _evaluated(context: RunContext, round_: int, detector: RoundDetector) -> Metrics:
    """Return the metrics on the test split; keep the predictions if wanted."""
    experiment = context.experiment
    view = fitted(context, experiment.splits.test, context.caches.test, detector)
    settings, gives = experiment.config.evaluation, experiment.detector.gives
    metrics, kept = experiment.task.evaluated(view, experiment.splits.test, settings, gives)
    if kept is not None:
        context.ledger.store(detections_path(round_), kept, round_)
    return metrics
