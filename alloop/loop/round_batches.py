"""The batches of one round: of labeled images, of the same drawn class by class, and of unlabeled images."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from alloop.class_values import Truth
from alloop.data.pixels import PixelCache
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import FrozenFeatureDetector, Network
from alloop.loop.context import RunContext
from alloop.query import Need, boxed
from alloop.randomness import RoundSeed
from alloop.training.batches import TrainingBatches, UnlabeledBatches
from alloop.training.class_balance.classifier_retraining import ClassBalancedBatches
from alloop.values import ImageId


def frozen_features(context: RunContext, cache: PixelCache, detector: Network) -> FrozenFeatureCache | None:
    """Return what the frozen layers of a detector make of images; None where it has none, or where it is off."""
    wanted, device = context.experiment.config.training.frozen_features, context.experiment.device
    if wanted == "off" or (wanted == "auto" and device.type != "cpu"):
        return None
    layers = detector.frozen_layers() if isinstance(detector, FrozenFeatureDetector) else None
    if layers is None:
        return None
    dtype = torch.float16 if wanted == "float16" else torch.float32
    return FrozenFeatureCache(layers, cache, context.kept, dtype=dtype, device=device)


def training_batches(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Truth], detector: Network
) -> TrainingBatches:
    """Return the batches that a detector is trained on."""
    seed = RoundSeed(context.experiment.config.random_seed, round_)
    return context.experiment.task.batches(labeled, _settings(context, detector, seed))


def class_balanced_batches(
    context: RunContext, labeled: Mapping[ImageId, Truth], detector: Network, seed: RoundSeed
) -> ClassBalancedBatches:
    """Return the batches that a classifier is retrained on, under a seed of their own."""
    return ClassBalancedBatches(labeled=boxed(labeled), **_settings(context, detector, seed))


def _settings(context: RunContext, detector: Network, seed: RoundSeed) -> dict[str, Any]:
    """Return the arguments of `TrainingBatches` but the images."""
    experiment, cache = context.experiment, context.caches.training
    return {
        "cache": cache,
        "config": experiment.config.training,
        "seed": seed,
        "with_masks": Need.MASKS in experiment.detector.gives,
        "device": experiment.device,
        # their features belong to one size
        "frozen": None if experiment.config.training.short_sides else frozen_features(context, cache, detector),
    }


def unlabeled_batches(
    context: RunContext, round_: int, image_ids: Sequence[ImageId], detector: Network, *, ratio: int
) -> UnlabeledBatches:
    """Return batches of images without labels, with `ratio` images for each labeled one of a step."""
    experiment, cache = context.experiment, context.caches.pool
    return UnlabeledBatches(
        cache,
        image_ids,
        RoundSeed(experiment.config.random_seed, round_),
        batch_size=ratio * experiment.config.training.batch_size,
        device=experiment.device,
        frozen=frozen_features(context, cache, detector),
    )
