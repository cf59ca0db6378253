"""COCO average precision of boxes and masks, computed by faster-coco-eval on renumbered and checked records.

Ids are renumbered from 1 (an annotation id of 0 silently costs AP in COCOeval), and every number was checked to be
finite when its value object was built (pycocotools scores a NaN box as perfect). Boxes that are too small to be
found are left out. The area of a true object, which decides whether it is small, medium or large, is that of its mask
where it has one, as in COCO; else that of its box, which is larger.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool

from alloop.errors import DataError
from alloop.evaluation.metrics import Metrics
from alloop.geometry import boxes as box_math
from alloop.geometry.masks import decode_mask, decode_patch
from alloop.values import Annotations, Detections, ImageId, Segmentation

Kind = Literal["bbox", "segm"]
BEYOND = 1e11  # pixels; an area of no range, so that COCOeval ignores the object and what overlaps it enough
COCO_LIMIT = 100  # detections of each class in an image that COCO counts


def coco_dicts(
    truth: Mapping[ImageId, Annotations],
    detections: Mapping[ImageId, Detections],
    classes: int,
    kind: Kind,
    sizes: Mapping[ImageId, tuple[int, int]] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the ground truth tree and the list of results that any COCOeval understands.

    Args:
        truth: annotations by image.
        detections: by image; every image has annotations.
        classes: number of classes.
        kind: `bbox` for boxes, `segm` for masks.
        sizes: (width, height) of each image in pixels; needed for masks. For boxes, the areas of masks need them.
    """
    numbers = {image_id: number for number, image_id in enumerate(sorted(truth), start=1)}
    sizes = {image_id: sizes[image_id] for image_id in truth} if sizes is not None else {}
    records = [
        {"image_id": number, **record}
        for image_id, number in numbers.items()
        for record in _annotation_records(image_id, truth[image_id], sizes.get(image_id), kind)
    ]
    results = [
        {"image_id": numbers[image_id], **record}
        for image_id in sorted(detections)
        for record in _result_records(detections[image_id], kind)
    ]
    tree = {
        "info": {},
        "images": [_image_record(number, sizes.get(image_id)) for image_id, number in numbers.items()],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
        "annotations": [{"id": number, **record} for number, record in enumerate(records, start=1)],
    }
    return tree, results


def _image_record(number: int, size: tuple[int, int] | None) -> dict[str, int]:
    return {"id": number} if size is None else {"id": number, "width": size[0], "height": size[1]}


def _annotation_records(
    image_id: ImageId, truth: Annotations, size: tuple[int, int] | None, kind: Kind
) -> list[dict[str, Any]]:
    """Return the COCO records of one image; `size` is needed for masks."""
    boxes = truth.boxes.astype(np.float64)
    areas, xywh = box_math.area(boxes), box_math.to_xywh(boxes)
    records: list[dict[str, Any]] = []
    ignored = ignored_objects(truth)
    for row in np.flatnonzero(truth.trainable | (truth.crowd & (areas > 0)) | ignored):
        record: dict[str, Any] = {
            "category_id": int(truth.labels[row]) + 1,
            "bbox": xywh[row].tolist(),
            "area": float(areas[row]),
            "iscrowd": int(truth.crowd[row]),
        }
        segmentation = truth.masks[row] if row < len(truth.masks) else None
        if kind == "segm" and size is not None:
            mask = decode_mask(segmentation or b"[]", *size, f"image {image_id}")
            record |= {"segmentation": _encode(mask), "area": float(mask.sum())}
        elif segmentation is not None and size is not None:
            record["area"] = _mask_area(segmentation, size) or record["area"]
        if ignored[row]:
            record["area"] = BEYOND
        records.append(record)
    return records


def ignored_objects(truth: Annotations) -> Bool[np.ndarray, " n"]:
    """Return which boxes are marked `ignore`: they are large enough to be trained on, no crowd, and not trained on."""
    return np.asarray(~truth.trainable & ~truth.crowd & box_math.wide_enough(truth.boxes))


def _mask_area(segmentation: Segmentation, size: tuple[int, int]) -> float | None:
    """Return the pixels of a mask; None where it cannot be read, which does not matter to a box."""
    try:
        return float(decode_patch(segmentation, *size, "").mask.sum())
    except DataError:
        return None


def _result_records(detections: Detections, kind: Kind) -> list[dict[str, Any]]:
    """Return the COCO results of one image."""
    boxes = detections.boxes.astype(np.float64)
    areas, xywh = box_math.area(boxes), box_math.to_xywh(boxes)
    records: list[dict[str, Any]] = []
    for row in range(len(detections)):
        record: dict[str, Any] = {
            "category_id": int(detections.labels[row]) + 1,
            "score": float(detections.scores[row]),
        }
        if kind == "bbox":
            record |= {"bbox": xywh[row].tolist(), "area": float(areas[row])}
        elif detections.masks is not None:
            record["segmentation"] = _encode(detections.masks[row])
        records.append(record)
    return records


def _encode(mask: np.ndarray) -> dict[str, Any]:
    import faster_coco_eval.mask_api_new_cpp as rle  # noqa: PLC0415  only masks need it

    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask[:, :, None]))[0]
    return encoded


def evaluate(
    truth: Mapping[ImageId, Annotations],
    detections: Mapping[ImageId, Detections],
    class_names: Sequence[str],
    kind: Kind = "bbox",
    sizes: Mapping[ImageId, tuple[int, int]] | None = None,
    max_detections: int | None = None,
) -> Metrics:
    """Compute AP, AP50, AP75, AP by size and AP per class over the images of `truth`.

    COCO counts 100 detections of each class in an image. Where more are counted here, or fewer, and COCO's AP differs,
    it stands beside the others as `ap_at_100`.

    Args:
        truth: annotations by image; images without boxes count.
        detections: by image; an image that is missing has none.
        class_names: in label order.
        kind: `bbox` for boxes, `segm` for masks.
        sizes: (width, height) of each image in pixels; needed for masks. For boxes, the areas of masks need them.
        max_detections: detections of each class in an image that count, best first; None for all that are given.
    """
    tree, results = coco_dicts(truth, detections, len(class_names), kind, sizes)
    most = max((len(of_image) for of_image in detections.values()), default=0)
    limit = max_detections or max(most, COCO_LIMIT)
    precision = precision_table(tree, results, kind, limit)  # [10 iou, 101 recall, k, 4 areas]
    cells = {
        "ap": precision[:, :, :, 0],
        "ap50": precision[0, :, :, 0],
        "ap75": precision[5, :, :, 0],
        "ap_small": precision[:, :, :, 1],
        "ap_medium": precision[:, :, :, 2],
        "ap_large": precision[:, :, :, 3],
    }
    values = {name: _mean(part) for name, part in cells.items()}
    if limit != COCO_LIMIT and most > min(limit, COCO_LIMIT):
        at_100 = _mean(precision_table(tree, results, kind)[:, :, :, 0])
        values |= {"ap_at_100": at_100} if at_100 != values["ap"] else {}
    return Metrics(
        values=values,
        per_class={name: _mean(precision[:, :, k, 0]) for k, name in enumerate(class_names)},
    )


def _mean(cells: np.ndarray) -> float | None:
    """Return the mean over the cells that exist; COCOeval writes -1 where a class has no ground truth."""
    existing = cells[cells > -1]
    return float(existing.mean()) if existing.size else None


def precision_table(
    tree: dict[str, Any], results: list[dict[str, Any]], kind: str, max_detections: int = COCO_LIMIT
) -> np.ndarray:
    """Return COCOeval's precision `[10 iou, 101 recall, class, 4 areas]` at `max_detections` an image and class."""
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415  slow to import

    classes = len(tree["categories"])
    if not results or not tree["annotations"]:
        table = np.full((10, 101, classes, 4), -1.0)
        if tree["annotations"]:
            _zero_where_truth(table, tree)
        return table
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(tree)
        evaluator = COCOeval_faster(truth, truth.loadRes(results), iouType=kind)
        evaluator.params.maxDets = [max_detections]
        evaluator.evaluate()
        evaluator.accumulate()
    precision: np.ndarray = np.asarray(evaluator.eval["precision"])[:, :, :, :, -1]
    precision[np.isnan(precision)] = -1.0
    return precision


def _zero_where_truth(table: np.ndarray, tree: dict[str, Any]) -> None:
    """Set the precision to 0 in every cell with a ground truth, as it is without any detection."""
    ranges = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
    for record in tree["annotations"]:
        if record["iscrowd"]:
            continue
        for index, (low, high) in enumerate(ranges):
            if low <= record["area"] <= high:
                table[:, :, record["category_id"] - 1, index] = 0.0
