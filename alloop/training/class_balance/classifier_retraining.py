"""Classifier retraining, cRT (Kang et al., Decoupling representation and classifier, ICLR 2020, section 4.1).

Classes of all frequencies learn good features together, and only the classifier on top of them is biased. So after the
training the last classification layer gets new random weights and is trained again, with everything else frozen, on
class-balanced samples:

    p(image) = 1/C sum over the C classes c with a box of 1[image shows c] / (number of images that show c)

A class is drawn, then an image that shows it. The other boxes of that image are trained on as well: a detector would
take their regions for background otherwise. The learning rate starts again and follows the schedule of the training.
The paper trains 90 epochs and retrains 10, so the default is a ninth of the steps of the training.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from alloop.config.training import TrainingConfig
from alloop.detectors.region_protocol import BalancedDetector
from alloop.detectors.seeding import seeded
from alloop.errors import TrainingError
from alloop.randomness import RoundSeed, derive_seed
from alloop.training.batches import TrainingBatches
from alloop.training.checkpoints import CheckpointStore
from alloop.training.class_balance.classification_layer import classification_layer
from alloop.training.supervised import train
from alloop.values import ImageId

_CHANGED_IN_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # noqa: SLF001  both bases


def retraining_seed(seed: RoundSeed) -> RoundSeed:
    """Return the seed of the retraining, so that it repeats no random choice of the training before it."""
    return RoundSeed(derive_seed(seed.random_seed, "classifier retraining"), seed.round)


def retraining_steps(share: float, steps: int) -> int:
    """Return the steps of the retraining, at least one; `steps` are those of the training."""
    return max(1, round(share * steps))


def rows_by_class(labels: Sequence[Int64[np.ndarray, " _"]]) -> list[Int64[np.ndarray, " _"]]:
    """Return the rows of the images that show each class, for classes with a box; `labels` are those of each image."""
    shown = [np.unique(own) for own in labels]
    classes = np.concatenate([np.zeros(0, np.int64), *shown])
    rows = np.repeat(np.arange(len(shown)), [len(own) for own in shown])
    return [rows[classes == label] for label in np.unique(classes)]


def class_balanced_rows(
    showing: Sequence[Int64[np.ndarray, " _"]], generator: np.random.Generator, count: int
) -> list[int]:
    """Draw rows of images with replacement: each time a class, then an image that shows it.

    Args:
        showing: of `rows_by_class`, at least one class.
        generator: draws classes and images.
        count: number of rows.
    """
    drawn = [showing[int(generator.integers(len(showing)))] for _ in range(count)]
    return [int(rows[generator.integers(len(rows))]) for rows in drawn]


class ClassBalancedBatches(TrainingBatches):
    """Batches of labeled images whose images are drawn class by class. `training.repeat_threshold` has no effect here.

    Images without a box are never drawn, and at least one image must have one.
    """

    @cached_property
    def _distinct_ids(self) -> list[ImageId]:
        return sorted(set(self.image_ids))

    @cached_property
    def _showing(self) -> list[Int64[np.ndarray, " _"]]:
        return rows_by_class(self.labels)

    def step_ids(self, step: int) -> list[ImageId]:
        """Return the image ids of one step, a pure function of seed and step."""
        generator = self._seed.rng("class balance", step)
        rows = class_balanced_rows(self._showing, generator, self._config.batch_size)
        return [self._distinct_ids[row] for row in rows]


class RetrainingObjective:
    """The loss of the last classification layer on labeled images. It has no state."""

    def __init__(self, detector: BalancedDetector, batches: TrainingBatches) -> None:
        """Take a detector of which nothing but this layer requires gradients."""
        self._detector, self._batches = detector, batches

    def begin(self, averaged: Mapping[str, Tensor]) -> None:  # noqa: ARG002  the average is not needed
        """Freeze what else changes in a training: the statistics of batch norms, which are then used, and dropout."""
        for module in self._detector.module.modules():
            if isinstance(module, _CHANGED_IN_TRAINING):
                module.eval()

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the loss terms that depend on the layer, one number per image each, and the ids of the images.

        Raises:
            TrainingError: no term depends on it.
        """
        images, targets, image_ids = self._batches(step)
        terms = {k: term for k, term in self._detector.losses(images, targets).items() if term.requires_grad}
        if not terms:
            msg = (
                f"training.class_balance: no loss depends on {self._detector.classification_layer!r}, which the "
                "detector names as its `classification_layer`; correct the name"
            )
            raise TrainingError(msg)
        return terms, image_ids

    def end_step(self, step: int) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Do nothing."""


def retrain_classifier(
    detector: BalancedDetector,
    batches: ClassBalancedBatches,
    config: TrainingConfig,
    *,
    steps: int,
    seed: RoundSeed,
    device: torch.device,
    store: CheckpointStore,
    progress: Callable[[int, float], None],
) -> None:
    """Train the last classification layer anew and leave everything else as it is, bit for bit.

    Call it after the training, or with a checkpoint of itself in the store.

    Args:
        detector: trained, with its weights averaged if they are.
        batches: with the seed that is given here.
        config: optimizer, schedule and averaging, as those of the training.
        steps: of the retraining.
        seed: of `retraining_seed`.
        device: to train on.
        store: of checkpoints of the retraining alone.
        progress: called after each step with the number of finished steps and the loss of the batch.

    Raises:
        TrainingError: a loss that is not finite, with the image ids of that batch; a wrong `classification_layer`.
    """
    layer = classification_layer(detector)
    with seeded(seed.derive("classifier")):
        layer.reset_parameters()
    with _all_else_frozen(detector.module, layer):
        objective = RetrainingObjective(detector, batches)
        train(
            detector,
            objective,
            config,
            steps=steps,
            seed=seed,
            device=device,
            store=store,
            progress=progress,
        )
    detector.module.train()


@contextmanager
def _all_else_frozen(module: nn.Module, layer: nn.Module) -> Iterator[None]:
    """Let only the parameters of one layer require gradients inside a `with`."""
    before = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    module.requires_grad_(requires_grad=False)
    layer.requires_grad_(requires_grad=True)
    try:
        yield
    finally:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(before[name])
