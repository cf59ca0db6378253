"""One task of Label Studio as JSON: its page, its pre-annotations, and what people submitted for it.

A box is `x, y, width, height` in per cent of the image as displayed, `rotation` in degrees clockwise
about its top left corner, in pixels. Images are known by `data.alloop_id`, never by the server's own ids.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from alloop.data.records import Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, WorkTime
from alloop.geometry.boxes import Corners, corners_from_xywh, extent_of_rotated, xywh_from_corners
from alloop.values import ImageId, ImageRecord

FROM_NAME, TO_NAME = "label", "image"
# distinguishable also for readers who see colours differently
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")


def label_config(class_names: Sequence[str]) -> str:
    """Return the labeling page of a project: boxes that show, cannot be turned, and have one label each."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=TO_NAME, value="$image", zoom="true")
    look = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "3", "opacity": "0.2", "canRotate": "false"}
    labels = ET.SubElement(view, "RectangleLabels", look)
    for number, name in enumerate(class_names):
        ET.SubElement(labels, "Label", value=name, background=COLOURS[number % len(COLOURS)])
    return ET.tostring(view, encoding="unicode")


def task_data(image: ImageRecord) -> dict[str, Any]:
    """Return the data of a task. The file name stands for the address of the pixels until a server has another."""
    return {
        "alloop_id": image.image_id,
        "file_name": image.file_name,
        "image": image.file_name,
        "width": image.width,
        "height": image.height,
    }


def task_trees(
    records: Records, scores: Mapping[ImageId, Sequence[float]], model_version: str
) -> list[dict[str, object]]:
    """Return tasks as Label Studio imports them.

    Args:
        records: the images, and their pre-annotations as boxes.
        scores: confidences of the boxes for each image that has pre-annotations, possibly none at all.
        model_version: the name under which the server keeps the pre-annotations.
    """
    regions = regions_by_image(records, scores)
    trees: list[dict[str, object]] = []
    for image in records.images:
        tree: dict[str, object] = {"data": task_data(image)}
        if image.image_id in scores:
            own = scores[image.image_id]
            mean = sum(own) / len(own) if own else 0.0
            tree["predictions"] = [{"model_version": model_version, "score": mean, "result": regions[image.image_id]}]
        trees.append(tree)
    return trees


def regions_by_image(records: Records, scores: Mapping[ImageId, Sequence[float]]) -> dict[ImageId, list[Any]]:
    """Return the boxes of each image as regions, with their scores where there are some."""
    boxes, names = records.boxes_by_image(), records.category_names()
    regions: dict[ImageId, list[Any]] = {}
    for image in records.images:
        own = boxes[image.image_id]
        confidences = scores.get(image.image_id, [None] * len(own))
        regions[image.image_id] = [
            region(corners_from_xywh(box.bbox), names[box.category_id], (image.width, image.height), number, score)
            for number, (box, score) in enumerate(zip(own, confidences, strict=True))
        ]
    return regions


def region(corners: Corners, label: str, size: tuple[int, int], number: int, score: float | None = None) -> Any:
    """Return one box as a region of a prediction or an annotation."""
    x, y, w, h = xywh_from_corners(corners)
    width, height = size
    tree = {
        "id": f"alloop{number}",
        "type": "rectanglelabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x / width,
            "y": 100 * y / height,
            "width": 100 * w / width,
            "height": 100 * h / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }
    return tree if score is None else tree | {"score": score}


def parsed_region(item: Mapping[str, Any], size: tuple[int, int]) -> tuple[str, Corners]:
    """Return the label and the corners in pixels of one region; a rotated box gives its upright extent.

    Raises:
        ValueError: not a rectangle with exactly one label, another image size, a number that is not finite.
        AttributeError, OverflowError: not a region at all.
    """
    drawn_on = (item.get("original_width", size[0]), item.get("original_height", size[1]))
    if drawn_on != size:
        msg = f"drawn on an image of {drawn_on[0]} x {drawn_on[1]}, the pool says {size[0]} x {size[1]}"
        raise ValueError(msg)
    value = item.get("value")
    labels = value.get("rectanglelabels") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(labels, list) or len(labels) != 1:
        msg = f"a region of type {item.get('type')!r} with labels {labels!r}; one labeled rectangle expected"
        raise ValueError(msg)
    return str(labels[0]), _corners(value, size)


def _corners(value: Mapping[str, Any], size: tuple[int, int]) -> Corners:
    try:
        x, y, w, h, degrees = (float(value.get(key, 0)) for key in ("x", "y", "width", "height", "rotation"))
    except TypeError:
        msg = f"a box that is no numbers: {value!r}"
        raise ValueError(msg) from None
    if not all(math.isfinite(number) for number in (x, y, w, h, degrees)):
        msg = f"a box that is not finite: {value!r}"
        raise ValueError(msg)
    width, height = size
    x1, y1 = x * width / 100, y * height / 100
    corners = corners_from_xywh((x1, y1, w * width / 100, h * height / 100))
    return extent_of_rotated(corners, math.radians(degrees), (x1, y1))


def latest(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the newest annotation of a task that is not a skip; None where there is none."""
    kept = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    return max(kept, key=lambda a: (str(a.get("updated_at", "")), a.get("id") or 0), default=None)


def submissions_of_task(task: Mapping[str, Any], size: tuple[int, int]) -> ImageSubmissions:
    """Return what people submitted for a task, in the order of the task.

    Args:
        task: with `annotations` and `drafts`, as the server exports it.
        size: (width, height) of the image in pixels.
    """
    annotations = [a for a in task.get("annotations") or [] if isinstance(a, dict)]
    return ImageSubmissions(tuple(_submission(a, size) for a in annotations), has_draft=bool(task.get("drafts")))


def _submission(annotation: Mapping[str, Any], size: tuple[int, int]) -> Submission:
    boxes, problem, turned = _drawn(annotation.get("result"), size)
    return Submission(
        boxes=boxes,
        is_skip=bool(annotation.get("was_cancelled")),
        problem=problem,
        remark=f"{turned} turned boxes were taken by their extent" if turned else "",
        person=_person(annotation),
        order=_order(annotation),
        work=WorkTime(_work_name(annotation), _seconds(annotation)),
    )


def _drawn(result: Any, size: tuple[int, int]) -> tuple[tuple[DrawnBox, ...], str, int]:
    """Return the boxes of a result, why they cannot be used, and how many of them are turned."""
    if not isinstance(result, list):
        return (), f"its result is {result!r}, not a list of boxes", 0
    boxes: list[DrawnBox] = []
    turned = 0
    for item in result:
        try:
            label, corners = parsed_region(item, size)
        except (ValueError, AttributeError, OverflowError) as error:
            return (), str(error), 0
        turned += bool(item["value"].get("rotation"))
        boxes.append(DrawnBox(label, xywh_from_corners(corners)))
    return tuple(boxes), "", turned


def _work_name(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("unique_id") or f"annotation {annotation.get('id')}")


def _person(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    return str(who.get("id") if isinstance(who, dict) else who)


def _order(annotation: Mapping[str, Any]) -> tuple[str, int]:
    number = annotation.get("id")
    return str(annotation.get("updated_at", "")), number if isinstance(number, int) else 0


def _seconds(annotation: Mapping[str, Any]) -> float | None:
    seconds = annotation.get("lead_time")
    if seconds is None:
        return None
    return float(seconds) if isinstance(seconds, int | float) else float("nan")
