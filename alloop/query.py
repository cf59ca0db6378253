"""What a strategy may see: unlabeled images without annotations, labeled ones with them, a detector."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32

from alloop import randomness
from alloop.values import Annotations, Detections, ImageId, MaskPixels, Selection

Weights = Mapping[str, np.ndarray]  # one array a weight of the detector's last layers, by name
PseudoLabels = Literal["hard", "posterior"]


class Need(StrEnum):
    """What a strategy can ask for; a detector lists what it can give, the data give `reference`."""

    EMBEDDINGS = "embeddings"
    DETECTIONS = "detections"
    IMAGE_LOSSES = "image_losses"
    REGION_FEATURES = "region_features"
    CLASSIFIER_FEATURES = "classifier_features"
    MASKS = "masks"
    LAST_LAYERS = "last_layers"
    PROPOSALS = "proposals"
    LOSS_PREDICTIONS = "loss_predictions"
    REFERENCE = "reference"
    SNAPSHOTS = "snapshots"


@runtime_checkable
class FittedDetector(Protocol):
    """The trained detector of this round, reading images by id. All results follow the given order."""

    @property
    def gives(self) -> frozenset[Need]:
        """What it can be asked for."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Detections of each image, in pixels of the image as displayed."""

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """One feature vector an image."""

    def image_losses(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> Float32[np.ndarray, " n"]:
        """The training loss of each image alone, under the given annotations."""

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """One feature vector a box, for each image."""

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """What the classifier of a two-stage detector sees of each box, and says: class probabilities, background last.

        One pair an image.
        """

    @property
    def snapshots(self) -> int:
        """How many states of the training are known, the trained detector included."""

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """What the mask head said, at one state of the training, inside the boxes that may be trained on.

        Snapshots run from 0 to `snapshots - 1`, which is the trained detector.
        """

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:
        """Detections on each image plus Gaussian noise of deviation `sigma` in steps of 0..255, not clipped."""

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """What the loss prediction module trained beside the detector expects of each image."""

    @property
    def last_layers(self) -> Mapping[str, float]:
        """Names of the weights of the last layers, with the scale that ISAL's released code gives each."""

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]) -> Weights:
        """Gradient of the images' summed losses in the last layers, each image as if trained on alone."""

    def curvature_product(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], vector: Weights
    ) -> Weights:
        """Hessian of the images' summed losses in the last layers, times a vector."""

    def loss_slopes(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], direction: Weights
    ) -> Float32[np.ndarray, " n"]:
        """Derivative of each image's loss along a direction in the last layers."""

    def pseudo_label_slopes(
        self, image_ids: Sequence[ImageId], direction: Weights, score_threshold: float, labels: PseudoLabels
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """As `loss_slopes`, with the detector's own detections as the truth; and how many boxes those are.

        Args:
            image_ids: images without annotations.
            direction: in the last layers.
            score_threshold: detections below it are left out. Where a score is the square root of class x
                centerness (FCOS in torchvision), the product is what is compared: it is the score of the
                released code of ISAL.
            labels: `hard` takes each for certain, `posterior` believes it as far as the detector does.

        Returns:
            slopes, meaningless where there is no box, and boxes.
        """


def no_progress(what: str, done: int, total: int) -> None:
    """Progress that nobody wants to hear of."""


@dataclass(frozen=True, slots=True)
class Query:
    """One round's question: which `count` of the unlabeled images should be annotated next?

    Attributes:
        round: the round that asks.
        unlabeled: ids one may choose from.
        labeled: ids with their annotations.
        sizes: (width, height) in pixels of every image of the pool, as displayed.
        truth: the hidden annotations of the unlabeled images, given to nobody but a strategy that says
            `annotations: true`, in pruning and simulated studies.
        reference: labeled images that a strategy may look at besides, never trained on.
        reference_detector: the same detector, reading the reference images: ids of two splits may coincide.
        detector: the detector trained in this round, reading images of the pool.
        count: how many images the answer must rank.
        budget_left: what may still be spent, in the budget's unit; None without a budget.
        progress: to be told of long work: what, how many are done, of how many.
        random_seed: source of all randomness of this query.
    """

    round: int
    unlabeled: tuple[ImageId, ...]
    labeled: Mapping[ImageId, Annotations]
    detector: FittedDetector
    count: int
    random_seed: int
    sizes: Mapping[ImageId, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    truth: Mapping[ImageId, Annotations] = field(default_factory=lambda: MappingProxyType({}))
    reference: Mapping[ImageId, Annotations] = field(default_factory=lambda: MappingProxyType({}))
    reference_detector: FittedDetector | None = None
    budget_left: int | None = None
    progress: Callable[[str, int, int], None] = no_progress

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator for this round; the same numbers at every access."""
        return randomness.rng(self.random_seed, self.round, "query")

    def candidates(self) -> list[ImageId]:
        """The unlabeled ids in an order that depends on neither position nor id."""
        return sorted(self.unlabeled, key=lambda i: randomness.tie_break(self.random_seed, i))

    def top(
        self,
        image_ids: Sequence[ImageId],
        utilities: Float[np.ndarray, " n"],
        predicted_boxes: Float[np.ndarray, " n"] | None = None,
        scored: Bool[np.ndarray, " n"] | None = None,
        diagnostics: Mapping[str, float] = MappingProxyType({}),
    ) -> Selection:
        """The `count` images of largest utility; equal ones in tie-break order.

        Args:
            image_ids: the images.
            utilities: one number an image.
            predicted_boxes: what each is expected to cost, if the strategy knows better than the loop.
            scored: images that a method can say nothing about are False: they come last, in random
                order, and take the least utility of the others.
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
