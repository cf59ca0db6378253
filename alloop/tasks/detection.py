"""Object detection: boxes are paid for, and AP is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alloop.class_values import Truth
from alloop.config.blocks import DataConfig, EvaluationConfig
from alloop.data.cache_folder import CacheFolder
from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.sizes import box_sides, image_sizes, shown_sides
from alloop.data.splits import Split, Splits, load_splits, refuse_missing_files
from alloop.data.summary import note_lines, untrained_boxes, unused_classes
from alloop.errors import ConfigError
from alloop.evaluation.metrics import Metrics
from alloop.predictions.counting import expected_boxes, fitted_threshold
from alloop.query import FittedDetector, Need, Query
from alloop.tasks.task import Counter
from alloop.values import ImageId

if TYPE_CHECKING:
    from alloop.training.batches import TrainingBatches

FINE = 8.0  # pixels; smaller boxes are finer than the finest level of most detectors
MANY_FINE = 0.1  # share of such boxes that is worth a line
FEW_BOXES = 10  # of a class in the test split; its AP is mostly chance then
SHOWN = 5  # classes that are named


@dataclass(frozen=True)
class Detection:
    """See `alloop.tasks.task.Task`."""

    name: ClassVar[str] = "detection"
    unit: ClassVar[str] = "boxes"
    reported: ClassVar[Mapping[str, str]] = {"ap": "AP", "ap50": "AP50"}
    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS})

    def load_splits(self, data: DataConfig, *, for_people: bool = False, kept: CacheFolder | None = None) -> Splits:
        """Read annotations with boxes, or draw the embedded scenes."""
        return load_splits(data, for_people=for_people, kept=kept)

    def refuse_missing(self, data: DataConfig) -> None:
        """Refuse annotations and image folders that are not there."""
        refuse_missing_files(data)

    def notes(self, splits: Mapping[str, Split], *, labels_are_known: bool) -> list[str]:
        """Return classes of which no image of the pool has a box, and what was noted when the boxes were read."""
        pool = boxes_of(splits["train"])
        unused = unused_classes(pool, "the pool") if labels_are_known else []
        noted = [line for split in splits.values() for line in note_lines(boxes_of(split))]
        return [*untrained_boxes(pool), *unused, *noted]

    def doubts(self, splits: Splits, scaled: tuple[int, int] | None) -> list[str]:
        """Return whether boxes are too small for a detector, and which classes have too few test boxes."""
        pool, test = boxes_of(splits.train), boxes_of(splits.test)
        sides = box_sides(pool, *scaled) if scaled else box_sides(pool)
        fine = float(np.mean(sides < FINE)) if len(sides) else 0.0
        lines = []
        if scaled and fine > MANY_FINE:
            hint = "detectors hardly find such; raise detector.short_side and long_side, or take a backbone of stride 4"
            lines.append(f"{fine:.0%} of the boxes of the pool have sides under {FINE:g} px after scaling; {hint}")
        return [*lines, *_rare_test_classes(test)]

    def figures(self, split: Split, scaled: tuple[int, int] | None) -> dict[str, str]:
        """Return the sizes of images and boxes."""
        own = boxes_of(split)
        figures = {
            "image size": image_sizes(own),
            "box sides in px: 10 %, half, 90 %": shown_sides(box_sides(own)),
        }
        if scaled is not None:
            figures[f"scaled to {scaled[0]} x {scaled[1]}"] = shown_sides(box_sides(own, *scaled))
        return figures

    def has_labels(self, split: Split) -> bool:
        """Return whether a box of a split may be trained on."""
        return bool(_annotations(split).trainable.any())

    def check(self, pool: Split, gives: frozenset[Need], name: str) -> None:
        """Refuse boxes without a mask where masks are learned."""
        image_id = _annotations(pool).lacking_mask() if Need.MASKS in gives else None
        if image_id is not None:
            msg = f"detector.name: {name} needs masks, but image {image_id} has boxes without a segmentation"
            raise ConfigError(msg)

    def batches(self, labeled: Mapping[ImageId, Truth], settings: Mapping[str, Any]) -> "TrainingBatches":
        """Return batches with boxes."""
        from alloop.training.batches import TrainingBatches  # noqa: PLC0415  imports torch

        return TrainingBatches(labeled=labeled, **settings)

    def fitted(self, *args: Any, **settings: Any) -> FittedDetector:
        """Return the detector; see `FittedTorchDetector`."""
        from alloop.detectors.fitted import FittedTorchDetector  # noqa: PLC0415  imports torch

        return FittedTorchDetector(*args, **settings)

    def evaluated(
        self, fitted: FittedDetector, test: Split, settings: EvaluationConfig, gives: frozenset[Need]
    ) -> tuple[Metrics, bytes | None]:
        """Return AP of boxes, and of masks where the detector gives them; and the detections with what they match."""
        from alloop.evaluation.coco_ap import evaluate  # noqa: PLC0415
        from alloop.evaluation.detections_file import detections_to_bytes  # noqa: PLC0415
        from alloop.evaluation.matching import matched_detections  # noqa: PLC0415
        from alloop.evaluation.voc_ap import voc_ap  # noqa: PLC0415

        ids, names, truth = sorted(test.dataset.images), test.dataset.class_names, _annotations(test)
        detections = dict(zip(ids, fitted.detections(ids), strict=True))
        limit = settings.max_detections
        sizes = {i: (record.width, record.height) for i, record in test.dataset.images.items()}
        metrics = evaluate(truth, detections, names, sizes=sizes, max_detections=limit)
        metrics = replace(metrics, values={**metrics.values, **voc_ap(truth, detections, names)})
        kept = None
        if settings.keep_detections:
            kept = detections_to_bytes(matched_detections(truth, detections, names, test.dataset.groups, limit))
        if Need.MASKS in gives:
            metrics = metrics.with_masks(evaluate(truth, detections, names, "segm", sizes, limit))
        return metrics, kept

    def counter(self, query: Query, mean: float) -> Counter:
        """Return the number of detections above a score at which there are `mean` of them per image."""
        threshold = fitted_threshold(query, mean)

        def expected(image_ids: Sequence[ImageId]) -> list[float]:
            return [float(boxes) for boxes in expected_boxes(query.detector.detections(image_ids), threshold)]

        return expected


def _rare_test_classes(test: DataSet) -> list[str]:
    """Say which classes have so few test boxes that AP, the mean over classes, is uncertain."""
    rare = [
        f"{name} {count}"
        for name, count in zip(test.class_names, test.class_counts(), strict=True)
        if 0 < count < FEW_BOXES
    ]
    if not rare:
        return []
    listed = ", ".join(rare[:SHOWN]) + (f" and {len(rare) - SHOWN} more" if len(rare) > SHOWN else "")
    return [f"classes with under {FEW_BOXES} boxes in the test split, whose AP is mostly chance: {listed}"]


def boxes_of(split: Split) -> DataSet:
    """Return the data set of a split of a detection task."""
    assert isinstance(split.dataset, DataSet)
    return split.dataset


def _annotations(split: Split) -> GroupedAnnotations:
    return boxes_of(split).annotations
