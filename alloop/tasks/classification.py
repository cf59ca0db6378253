"""Image classification: one label an image is paid for, and accuracy is measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alloop.class_values import Truth
from alloop.config.blocks import DataConfig, EvaluationConfig
from alloop.data.cache_folder import CacheFolder
from alloop.data.classification.splits import load_classified_splits, refuse_missing_classified
from alloop.data.sizes import image_sizes
from alloop.data.splits import Split, Splits
from alloop.evaluation.metrics import Metrics
from alloop.query import FittedDetector, Need, Query
from alloop.tasks.task import Counter
from alloop.values import ImageId

if TYPE_CHECKING:
    from alloop.training.batches import TrainingBatches

FEW_IMAGES = 10  # of a class in the test split


@dataclass(frozen=True)
class Classification:
    """See `alloop.tasks.task.Task`."""

    name: ClassVar[str] = "classification"
    unit: ClassVar[str] = "labels"
    reported: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy"}
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PREDICTIONS})

    def load_splits(
        self,
        data: DataConfig,
        *,
        for_people: bool = False,
        kept: CacheFolder | None = None,  # noqa: ARG002  nothing is drawn
    ) -> Splits:
        """Read images with one class each."""
        return load_classified_splits(data, for_people=for_people)

    def refuse_missing(self, data: DataConfig) -> None:
        """Refuse sources and image folders that are not there."""
        refuse_missing_classified(data)

    def notes(self, splits: Mapping[str, Split], *, labels_are_known: bool) -> list[str]:
        """Return the classes of which the pool has no image."""
        pool = splits["train"].dataset
        counts = zip(pool.class_names, pool.class_counts(), strict=True)
        unused = [name for name, count in counts if not count] if labels_are_known else []
        return [f"the pool has no image of {', '.join(unused)}"] if unused else []

    def doubts(self, splits: Splits, scaled: tuple[int, int] | None) -> list[str]:  # noqa: ARG002
        """Return which classes have too few test images."""
        test = splits.test.dataset
        counts = zip(test.class_names, test.class_counts(), strict=True)
        rare = [f"{name} {count}" for name, count in counts if count < FEW_IMAGES]
        if not rare:
            return []
        return [f"classes with under {FEW_IMAGES} test images, whose accuracy is mostly chance: {', '.join(rare)}"]

    def figures(self, split: Split, scaled: tuple[int, int] | None) -> dict[str, str]:
        """Return the sizes of images."""
        sizes = {"image size": image_sizes(split.dataset)}
        return sizes if scaled is None else {**sizes, "scaled to": f"{scaled[0]} x {scaled[0]}"}

    def has_labels(self, split: Split) -> bool:
        """Return whether an image of a split is labeled."""
        return bool(len(split.dataset.annotations))

    def check(self, pool: Split, gives: frozenset[Need], name: str) -> None:
        """Accept every pool: an image with a class can be learned from."""

    def batches(self, labeled: Mapping[ImageId, Truth], settings: Mapping[str, Any]) -> "TrainingBatches":
        """Return batches with classes."""
        from alloop.training.classification_batches import ClassificationBatches  # noqa: PLC0415  imports torch

        return ClassificationBatches(labeled=labeled, **settings)

    def fitted(self, *args: Any, **settings: Any) -> FittedDetector:
        """Return the classifier; see `FittedTorchClassifier`."""
        from alloop.detectors.classification.fitted import FittedTorchClassifier  # noqa: PLC0415  imports torch

        return FittedTorchClassifier(*args, **settings)

    def evaluated(
        self,
        fitted: FittedDetector,
        test: Split,
        settings: EvaluationConfig,  # noqa: ARG002  they are about detections
        gives: frozenset[Need],  # noqa: ARG002
    ) -> tuple[Metrics, bytes | None]:
        """Return accuracy, over all images and by class; predictions are not kept."""
        from alloop.evaluation.accuracy import accuracy  # noqa: PLC0415

        ids, truth = sorted(test.dataset.annotations), test.dataset.annotations
        labels = np.array([truth[image_id].labels[0] for image_id in ids], dtype=np.int64)
        return accuracy(labels, fitted.class_probabilities(ids), test.dataset.class_names), None

    def counter(self, query: Query, mean: float) -> Counter:  # noqa: ARG002
        """Return one label for each image."""
        return lambda image_ids: [1.0] * len(image_ids)
