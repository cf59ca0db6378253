"""What a strategy may see: unlabeled images without annotations, labeled ones with them, a detector."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from alloop import randomness
from alloop.values import Annotations, Detections, ImageId, Selection


class Need(StrEnum):
    """What a strategy can ask of a detector; a detector lists what it can give."""

    EMBEDDINGS = "embeddings"
    DETECTIONS = "detections"
    IMAGE_LOSSES = "image_losses"
    REGION_FEATURES = "region_features"
    MASKS = "masks"


@runtime_checkable
class FittedDetector(Protocol):
    """The trained detector of this round, reading images by id. All results follow the given order."""

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
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "n 4"]]
    ) -> list[Float32[np.ndarray, "n d"]]:
        """One feature vector a box, for each image."""


@dataclass(frozen=True, slots=True)
class Query:
    """One round's question: which `count` of the unlabeled images should be annotated next?

    Attributes:
        round: the round that asks.
        unlabeled: ids one may choose from.
        labeled: ids with their annotations.
        reference: labeled images that a strategy may look at besides, never trained on.
        detector: the detector trained in this round.
        count: how many images the answer must rank.
        budget_left: what may still be spent, in the budget's unit; None without a budget.
        random_seed: source of all randomness of this query.
    """

    round: int
    unlabeled: tuple[ImageId, ...]
    labeled: Mapping[ImageId, Annotations]
    detector: FittedDetector
    count: int
    random_seed: int
    reference: Mapping[ImageId, Annotations] = field(default_factory=lambda: MappingProxyType({}))
    budget_left: int | None = None

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
    ) -> Selection:
        """The `count` images of largest utility; equal ones in tie-break order."""
        utilities = np.asarray(utilities, dtype=np.float64)
        ties = [randomness.tie_break(self.random_seed, i) for i in image_ids]
        order = sorted(range(len(image_ids)), key=lambda row: (-utilities[row], ties[row]))[: self.count]
        return Selection(
            image_ids=tuple(image_ids[row] for row in order),
            utilities=utilities[order],
            predicted_boxes=None if predicted_boxes is None else np.asarray(predicted_boxes)[order],
        )
