"""One task of Label Studio as JSON: its pre-annotations, and what people submitted for it.

Images are known by `data.alloop_id`, never by the server's own ids.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from alloop.data.formats.label_studio_page import FROM_NAME, TO_NAME
from alloop.data.formats.label_studio_results import UNUSABLE, Drawn, drawn_boxes, unit_problem
from alloop.data.records import Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, WorkTime
from alloop.geometry.boxes import Corners, corners_from_xywh, xywh_from_corners
from alloop.values import ImageId, ImageRecord


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


def submissions_of_task(task: Mapping[str, Any], size: tuple[int, int]) -> ImageSubmissions:
    """Return what people submitted for a task, in the order of the task.

    Args:
        task: with `annotations` and `drafts`, as the server exports it.
        size: (width, height) of the image in pixels.
    """
    annotations = [a for a in task.get("annotations") or [] if isinstance(a, dict)]
    return ImageSubmissions(tuple(_submission(a, size) for a in annotations), has_draft=bool(task.get("drafts")))


def _submission(annotation: Mapping[str, Any], size: tuple[int, int]) -> Submission:
    drawn, problem = _drawn(annotation.get("result"), size)
    return Submission(
        boxes=tuple(DrawnBox(label, xywh_from_corners(corners)) for label, corners in drawn.boxes),
        is_skip=bool(annotation.get("was_cancelled")),
        problem=problem,
        remark="; ".join(rule if count == 1 else f"{rule} ({count} times)" for rule, count in drawn.rules.items()),
        person=_person(annotation),
        order=order_of(annotation),
        work=WorkTime(_work_name(annotation), _seconds(annotation)),
    )


def _drawn(result: Any, size: tuple[int, int]) -> tuple[Drawn, str]:
    """Return the boxes of a result, and why they cannot be used."""
    try:
        drawn = drawn_boxes(result, size)
    except UNUSABLE as error:
        return Drawn((), {}), str(error)
    unit = unit_problem((corners, size) for _, corners in drawn.boxes)
    return (Drawn((), {}), unit) if unit else (drawn, "")


def _work_name(annotation: Mapping[str, Any]) -> str:
    return str(annotation.get("unique_id") or f"annotation {annotation.get('id')}")


def _person(annotation: Mapping[str, Any]) -> str:
    who = annotation.get("completed_by")
    return str(who.get("id") if isinstance(who, dict) else who)


def order_of(annotation: Mapping[str, Any]) -> tuple[str, int]:
    """Return when an annotation was changed last, and its number: the largest is the newest."""
    number = annotation.get("id")
    changed = annotation.get("updated_at") or annotation.get("created_at") or ""
    return str(changed), number if isinstance(number, int) else 0


def _seconds(annotation: Mapping[str, Any]) -> float | None:
    seconds = annotation.get("lead_time")
    if seconds is None:
        return None
    return float(seconds) if isinstance(seconds, int | float) else float("nan")
