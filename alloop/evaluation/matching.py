"""Which detections of the test split match a true box, kept so that AP of any resample of the images can be counted.

Matching is done image by image and class by class, so a resample of the images does not change it.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from alloop.evaluation.coco_ap import COCO_LIMIT, coco_dicts
from alloop.values import Annotations, Detections, ImageId

IOU_THRESHOLDS = 10  # 0.50, 0.55, ..., 0.95, as COCO


@dataclass(frozen=True, slots=True, eq=False)
class MatchedDetections:
    """The detections on the test images with what COCO's matching made of them, and the true boxes that count.

    An image is a row of `image_ids`; t counts the IoU thresholds 0.50, 0.55, ..., 0.95.

    Attributes:
        image_ids: ascending.
        groups: the group of each image; empty where images have no groups.
        class_names: in label order.
        truth_images: the row of the image of each true box that counts; crowds do not.
        truth_labels: the class of each of these.
        images: the row of the image of each detection, ascending.
        labels: the class of each detection.
        scores: its confidence.
        boxes: xyxy in absolute pixels.
        matched: `[t, i]` is True where detection i matches a true box that counts.
        ignored: `[t, i]` is True where detection i counts neither as right nor as wrong: it lies in a crowd, or its
            image has more detections of its class than are counted.
    """

    image_ids: Int64[np.ndarray, " m"]
    groups: tuple[str, ...]
    class_names: tuple[str, ...]
    truth_images: Int64[np.ndarray, " b"]
    truth_labels: Int64[np.ndarray, " b"]
    images: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    boxes: Float32[np.ndarray, "n 4"]
    matched: Bool[np.ndarray, "t n"]
    ignored: Bool[np.ndarray, "t n"]


def matched_detections(
    truth: Mapping[ImageId, Annotations],
    detections: Mapping[ImageId, Detections],
    class_names: Sequence[str],
    groups: Mapping[ImageId, str],
    max_detections: int | None = None,
) -> MatchedDetections:
    """Match detections with true boxes as `alloop.evaluation.coco_ap.evaluate` does, by pycocotools.

    Args:
        truth: annotations by image; images without boxes count.
        detections: by image; an image that is missing has none.
        class_names: in label order.
        groups: the group of each image; empty where images have no groups.
        max_detections: detections of each class in an image that count, best first; None for all that are given.
    """
    most = max((len(of_image) for of_image in detections.values()), default=0)
    tree, results = coco_dicts(truth, detections, len(class_names), "bbox")
    image_ids = sorted(truth)
    given = [detections[image_id] for image_id in sorted(detections)]
    matched = np.zeros((IOU_THRESHOLDS, len(results)), dtype=np.bool_)
    ignored = np.ones_like(matched)  # what COCO's matching does not return is beyond the limit
    truth_images, truth_labels = [], []
    for cell in _matched_cells(tree, results, max_detections or max(most, COCO_LIMIT)):
        rows = np.array(cell["dtIds"], dtype=np.int64) - 1
        ignored[:, rows] = cell["dtIgnore"]
        matched[:, rows] = (cell["dtMatches"] > 0) & ~ignored[:, rows]
        boxes = int(np.count_nonzero(np.asarray(cell["gtIgnore"]) == 0))
        truth_images += [cell["image_id"] - 1] * boxes
        truth_labels += [cell["category_id"] - 1] * boxes
    return MatchedDetections(
        image_ids=np.array(image_ids, dtype=np.int64),
        groups=tuple(groups[image_id] for image_id in image_ids) if groups else (),
        class_names=tuple(class_names),
        truth_images=np.array(truth_images, dtype=np.int64),
        truth_labels=np.array(truth_labels, dtype=np.int64),
        images=np.array([result["image_id"] - 1 for result in results], dtype=np.int64),
        labels=np.array([result["category_id"] - 1 for result in results], dtype=np.int64),
        scores=np.concatenate([np.zeros(0, dtype=np.float32), *(one.scores for one in given)]),
        boxes=np.concatenate([np.zeros((0, 4), dtype=np.float32), *(one.boxes for one in given)]),
        matched=matched,
        ignored=ignored,
    )


def _matched_cells(tree: dict[str, Any], results: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return what pycocotools found for each image and class that has a true box or a detection."""
    from pycocotools.coco import COCO  # noqa: PLC0415  slow to import
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        truth.dataset, found.dataset = tree, {**tree, "annotations": []}
        truth.createIndex()
        found.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(results) if results else found, "bbox")
        evaluator.params.maxDets = [limit]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.evaluate()
    return [cell for cell in evaluator.evalImgs if cell is not None]
