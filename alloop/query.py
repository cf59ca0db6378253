"""What a strategy may see: unlabeled images without annotations, labeled ones with them, a detector.

A detector is seen through small protocols, one per `Need`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32

from alloop import randomness
from alloop.class_values import Truth
from alloop.values import Annotations, Detections, ImageId, MaskPixels, Selection

Weights = Mapping[str, np.ndarray]
"""One array per weight of the detector's last layers, by name."""

PseudoLabels = Literal["hard", "posterior"] | int
"""How certain pseudo-labels are; a number is that of the most probable classes of an image, weighed by probability."""


class Need(StrEnum):
    """What a strategy can need: `REFERENCE` comes from the data, everything else from the detector.

    `PREDICTIONS` are those of the task: detections, or the class probabilities of an image.
    """

    EMBEDDINGS = "embeddings"
    PREDICTIONS = "predictions"
    DETECTIONS = "detections"
    NOISY_DETECTIONS = "noisy_detections"
    REGION_FEATURES = "region_features"
    CLASSIFIER_FEATURES = "classifier_features"
    MASKS = "masks"
    LAST_LAYERS = "last_layers"
    PROPOSALS = "proposals"
    LOSS_PREDICTIONS = "loss_predictions"
    REFERENCE = "reference"
    SNAPSHOTS = "snapshots"


@runtime_checkable
class Detecting(Protocol):
    """Detects objects (`Need.DETECTIONS`, and `Need.PROPOSALS` where the detections carry their proposals)."""

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Return the detections of each image, in pixels of the image as displayed."""


@runtime_checkable
class Classifying(Protocol):
    """Gives an image one class (`Need.PREDICTIONS` of classification)."""

    def class_probabilities(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n k"]:
        """Return the probability of each class, for each image."""


@runtime_checkable
class DetectingUnderNoise(Protocol):
    """Detects objects on images with added noise (`Need.NOISY_DETECTIONS`)."""

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:
        """Return the detections of each image plus Gaussian noise.

        Args:
            image_ids: images to detect on.
            sigma: standard deviation of the noise in steps of 0..255; the sum is not clipped.
            random_seed: the noise of an image is a function of this seed, the image and sigma.
        """


@runtime_checkable
class Embedding(Protocol):
    """Describes an image by a vector (`Need.EMBEDDINGS`)."""

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """Return one feature vector per image."""


@runtime_checkable
class EmbeddingRegions(Protocol):
    """Describes a region of an image by a vector (`Need.REGION_FEATURES`)."""

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """Return one feature vector per box, for each image."""


@runtime_checkable
class ClassifyingRegions(Protocol):
    """Classifies given regions, as the second stage of a detector does (`Need.CLASSIFIER_FEATURES`)."""

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """Return for each image the classifier's input features and class probabilities, one row per box.

        The last column of the probabilities is the background.
        """


@runtime_checkable
class TrainingHistory(Protocol):
    """Knows states of its own training (`Need.SNAPSHOTS`)."""

    @property
    def snapshots(self) -> int:
        """Number of known states of the training; the last one is the trained detector."""


@runtime_checkable
class PredictingMasks(TrainingHistory, Protocol):
    """Predicts masks inside given boxes (`Need.MASKS`)."""

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """Return the mask logits inside the trainable boxes of each image, at one state of the training.

        Snapshots run from 0 to `snapshots - 1`, which is the trained detector.
        """


@runtime_checkable
class PredictingLosses(Protocol):
    """Has a loss prediction module that was trained beside it (`Need.LOSS_PREDICTIONS`)."""

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """Return the predicted loss of each image, up to scale and shift: only the order was learned."""


@runtime_checkable
class Differentiable(Protocol):
    """Differentiates its losses in the weights of its last layers (`Need.LAST_LAYERS`).

    The loss of an image is its training loss as if it were the only image of the batch.
    """

    @property
    def last_layers(self) -> Mapping[str, float]:
        """Names of the weights of the last layers, with the scale that ISAL's released code gives each."""

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth]) -> Weights:
        """Return the gradient of the images' summed losses."""

    def curvature_product(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth], vector: Weights
    ) -> Weights:
        """Return the Hessian of the images' summed losses, times a vector."""

    def loss_slopes(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth], direction: Weights
    ) -> Float32[np.ndarray, " n"]:
        """Return the derivative of each image's loss along a direction."""

    def pseudo_label_slopes(
        self, image_ids: Sequence[ImageId], direction: Weights, score_threshold: float, labels: PseudoLabels
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Return slopes as `loss_slopes` does, with the detector's own detections as pseudo-labels, and their number.

        Args:
            image_ids: images without annotations.
            direction: one array per weight of the last layers.
            score_threshold: detections of a lower score are left out.
            labels: `hard` treats each pseudo-label as certain, `posterior` weighs it by the class probabilities.

        Returns:
            slopes, meaningless where an image has no pseudo-label, and numbers of pseudo-labels.
        """


@runtime_checkable
class FittedDetector(
    Detecting,
    Classifying,
    DetectingUnderNoise,
    Embedding,
    EmbeddingRegions,
    ClassifyingRegions,
    PredictingMasks,
    PredictingLosses,
    Differentiable,
    Protocol,
):
    """The trained detector of a round, which reads images by id and answers in the order of the ids.

    It is every capability at once, of detection and of classification; a strategy calls only those that its `needs`
    name, since calling one that is not in `gives` raises StrategyError.
    """

    @property
    def gives(self) -> frozenset[Need]:
        """The needs that this detector serves."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""


CAPABILITIES: Mapping[Need, type] = {
    Need.PREDICTIONS: Classifying,
    Need.EMBEDDINGS: Embedding,
    Need.DETECTIONS: Detecting,
    Need.NOISY_DETECTIONS: DetectingUnderNoise,
    Need.REGION_FEATURES: EmbeddingRegions,
    Need.CLASSIFIER_FEATURES: ClassifyingRegions,
    Need.MASKS: PredictingMasks,
    Need.LAST_LAYERS: Differentiable,
    Need.PROPOSALS: Detecting,
    Need.LOSS_PREDICTIONS: PredictingLosses,
    Need.SNAPSHOTS: TrainingHistory,
}
"""What a fitted detector must implement to serve a need; whoever detects serves `PREDICTIONS` as well."""


def boxed(truths: Mapping[ImageId, Truth]) -> Mapping[ImageId, Annotations]:
    """Return the annotations of a detection task as such: a strategy that needs detections gets no other ones."""
    return cast("Mapping[ImageId, Annotations]", truths)


def no_progress(task: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which `count` of the unlabeled images should be annotated next, and everything that may decide it.

    Attributes:
        round: number of the round that queries.
        unlabeled: ids of the images to choose from.
        labeled: annotations of the labeled images.
        detector: the detector trained in this round, reading images of the pool.
        count: how many images the selection must rank.
        random_seed: source of all randomness of this query.
        sizes: (width, height) in pixels of every image of the pool, as displayed.
        truth: hidden annotations of the unlabeled images; empty unless the strategy declares `annotations: true`,
            which only pruning and simulated studies allow.
        reference: annotations of images that the strategy may look at and that are never trained on.
        reference_detector: the same detector, reading the reference images: ids of two splits may coincide.
        progress: called during long work with its name, the number of finished items, and their total.
    """

    round: int
    unlabeled: tuple[ImageId, ...]
    labeled: Mapping[ImageId, Truth]
    detector: FittedDetector
    count: int
    random_seed: int
    sizes: Mapping[ImageId, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    truth: Mapping[ImageId, Truth] = field(default_factory=lambda: MappingProxyType({}))
    reference: Mapping[ImageId, Truth] = field(default_factory=lambda: MappingProxyType({}))
    reference_detector: FittedDetector | None = None
    progress: Callable[[str, int, int], None] = no_progress

    @property
    def rng(self) -> np.random.Generator:
        """A new random generator of this query; every access returns one with the same numbers."""
        return randomness.rng(self.random_seed, self.round, "query")

    def candidates(self) -> list[ImageId]:
        """Return the unlabeled ids in an order that depends on neither position nor id."""
        return sorted(self.unlabeled, key=lambda i: randomness.tie_break(self.random_seed, i))

    def top(
        self,
        image_ids: Sequence[ImageId],
        utilities: Float[np.ndarray, " n"],
        predicted_boxes: Float[np.ndarray, " n"] | None = None,
        scored: Bool[np.ndarray, " n"] | None = None,
        diagnostics: Mapping[str, float] = MappingProxyType({}),
    ) -> Selection:
        """Return the `count` images of largest utility; equal ones in tie-break order.

        Args:
            image_ids: images to rank.
            utilities: one number per image.
            predicted_boxes: expected number of boxes of each image, if the strategy knows better than the loop.
            scored: False for images without a meaningful utility; they come last, in random order, and take
                the least utility of the others.
            diagnostics: figures worth recording.
        """
        known = np.ones(len(image_ids), dtype=np.bool_) if scored is None else np.asarray(scored, dtype=np.bool_)
        utilities = np.array(utilities, dtype=np.float64)
        utilities[~known] = utilities[known].min() if known.any() else 0.0
        ties = [randomness.tie_break(self.random_seed, i) for i in image_ids]
        order = sorted(range(len(image_ids)), key=lambda row: (not known[row], -utilities[row], ties[row]))
        order = order[: self.count]
        self.progress("selecting", len(order), len(order))
        return Selection(
            image_ids=tuple(image_ids[row] for row in order),
            utilities=utilities[order],
            predicted_boxes=None if predicted_boxes is None else np.asarray(predicted_boxes)[order],
            diagnostics=dict(diagnostics),
        )
