"""COCO average precision of boxes and masks, by faster-coco-eval on records we renumbered and checked.

Ids are renumbered from 1 (an annotation id of 0 silently costs AP in COCOeval), areas are computed
from the boxes, and every number was checked to be finite when its value object was made (a NaN box
scores as perfect in pycocotools). Records that are neither trainable nor crowd are left out.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from alloop.geometry import boxes as box_math
from alloop.geometry.masks import decode_mask
from alloop.values import Annotations, Detections, ImageId

_NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True, slots=True)
class Metrics:
    """AP figures as fractions of 1; None where there is nothing to measure."""

    values: Mapping[str, float | None]
    per_class: Mapping[str, float | None]


def coco_dicts(
    truth: Mapping[ImageId, Annotations],
    found: Mapping[ImageId, Detections],
    classes: int,
    kind: Literal["bbox", "segm"],
    sizes: Mapping[ImageId, tuple[int, int]] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The ground truth tree and the list of results that any COCOeval understands."""
    numbers = {image_id: number for number, image_id in enumerate(sorted(truth), start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id in sorted(truth):
        real = truth[image_id]
        areas, xywh = box_math.area(real.boxes.astype(np.float64)), box_math.to_xywh(real.boxes.astype(np.float64))
        for row in np.flatnonzero(real.trainable | (real.crowd & (areas > 0))):
            record: dict[str, Any] = {
                "id": len(annotations) + 1,
                "image_id": numbers[image_id],
                "category_id": int(real.labels[row]) + 1,
                "bbox": xywh[row].tolist(),
                "area": float(areas[row]),
                "iscrowd": int(real.crowd[row]),
            }
            if kind == "segm":
                width, height = (sizes or {})[image_id]
                mask = decode_mask(real.masks[row] or b"[]", width, height, f"image {image_id}")
                record |= {"segmentation": _encode(mask), "area": float(mask.sum())}
            annotations.append(record)
    results: list[dict[str, Any]] = []
    for image_id in sorted(found):
        seen = found[image_id]
        xywh, areas = box_math.to_xywh(seen.boxes.astype(np.float64)), box_math.area(seen.boxes.astype(np.float64))
        for number in range(len(seen)):
            result: dict[str, Any] = {
                "image_id": numbers[image_id],
                "category_id": int(seen.labels[number]) + 1,
                "score": float(seen.scores[number]),
            }
            if kind == "bbox":
                result |= {"bbox": xywh[number].tolist(), "area": float(areas[number])}
            elif seen.masks is not None:
                result["segmentation"] = _encode(seen.masks[number])
            results.append(result)
    tree = {
        "info": {},
        "images": [{"id": number} for number in numbers.values()],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
        "annotations": annotations,
    }
    if kind == "segm" and sizes is not None:
        tree["images"] = [{"id": number, "width": sizes[i][0], "height": sizes[i][1]} for i, number in numbers.items()]
    return tree, results


def _encode(mask: np.ndarray) -> dict[str, Any]:
    import faster_coco_eval.mask_api_new_cpp as rle  # noqa: PLC0415  only masks need it

    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask[:, :, None]))[0]
    return encoded


def evaluate(
    truth: Mapping[ImageId, Annotations],
    found: Mapping[ImageId, Detections],
    class_names: Sequence[str],
    kind: Literal["bbox", "segm"] = "bbox",
    sizes: Mapping[ImageId, tuple[int, int]] | None = None,
) -> Metrics:
    """AP, AP50, AP75, AP by size and per class over the images of `truth`.

    Args:
        truth: annotations by image; images without boxes count.
        found: detections by image; missing images have none.
        class_names: in label order.
        kind: boxes or masks; masks need `sizes` as (width, height).
        sizes: image sizes for masks.
    """
    tree, results = coco_dicts(truth, found, len(class_names), kind, sizes)
    precision = precision_table(tree, results, kind)  # [10 iou, 101 recall, k, 4 areas]
    cuts = {
        "ap": precision[:, :, :, 0],
        "ap50": precision[0, :, :, 0],
        "ap75": precision[5, :, :, 0],
        "ap_small": precision[:, :, :, 1],
        "ap_medium": precision[:, :, :, 2],
        "ap_large": precision[:, :, :, 3],
    }
    return Metrics(
        values={name: _mean(cuts[name]) for name in _NAMES},
        per_class={name: _mean(precision[:, :, k, 0]) for k, name in enumerate(class_names)},
    )


def _mean(cells: np.ndarray) -> float | None:
    """Mean over the cells that exist; COCOeval writes -1 where a class has no ground truth."""
    real = cells[cells > -1]
    return float(real.mean()) if real.size else None


def precision_table(tree: dict[str, Any], results: list[dict[str, Any]], kind: str) -> np.ndarray:
    """COCOeval's precision `[iou, recall, class, area]` at 100 detections an image."""
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415  slow to import

    classes = len(tree["categories"])
    if not results or not tree["annotations"]:
        table = np.full((10, 101, classes, 4), -1.0)
        if tree["annotations"]:
            _zero_where_truth(table, tree)
        return table
    with contextlib.redirect_stdout(io.StringIO()):
        real = COCO(tree)
        evaluator = COCOeval_faster(real, real.loadRes(results), iouType=kind)
        evaluator.evaluate()
        evaluator.accumulate()
    found: np.ndarray = np.asarray(evaluator.eval["precision"])[:, :, :, :, -1]
    found[np.isnan(found)] = -1.0
    return found


def _zero_where_truth(table: np.ndarray, tree: dict[str, Any]) -> None:
    """No detection at all: precision is 0 wherever there was something to find."""
    ranges = ((0, 1e10), (0, 32**2), (32**2, 96**2), (96**2, 1e10))
    for record in tree["annotations"]:
        if record["iscrowd"]:
            continue
        for index, (low, high) in enumerate(ranges):
            if low <= record["area"] <= high:
                table[:, :, record["category_id"] - 1, index] = 0.0
