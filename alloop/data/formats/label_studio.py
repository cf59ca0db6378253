"""Label Studio's JSON export, and the folder that holds it as `tasks.json` beside the page of the project."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alloop.data.formats.classes import ClassIds
from alloop.data.formats.format import NO_HINTS, Format, Hints, folder_of_file
from alloop.data.formats.label_studio_tasks import (
    label_config,
    latest,
    parsed_region,
    regions_by_image,
    submissions_of_task,
    task_data,
    task_trees,
)
from alloop.data.formats.sidecar import NO_SIDECAR, read_sidecar, refuse_lost_images, sidecar_file
from alloop.data.records import Box, Records
from alloop.data.submissions import ImageSubmissions, Submissions
from alloop.errors import DataError
from alloop.geometry.boxes import Corners, xywh_from_corners
from alloop.values import ImageId, ImageRecord

NAME, CONFIG = "tasks.json", "label_config.xml"
UNUSABLE = (ValueError, TypeError, AttributeError, KeyError, OverflowError)  # raised by a task of another shape
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")
Drawn = list[tuple[str, Corners]]  # label and corners in pixels of each box of a task


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """Read the tasks of an export, or of the folder that holds it.

    Raises:
        DataError: not a JSON list of tasks.
    """
    file = path / NAME if path.is_dir() else path
    try:
        tasks = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{file}: expected a Label Studio JSON export, but it cannot be read ({error})"
        raise DataError(msg) from error
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        msg = f"{file}: expected a list of tasks with data, as Label Studio's JSON export has it"
        raise DataError(msg)
    return tasks


def read_label_studio(path: Path, hints: Hints = NO_HINTS) -> Records:  # noqa: ARG001  its files say everything
    """Read an export: the newest annotation of each task. A task without one is an image without a box.

    Sizes come from the task's data or its regions, ids from `data.alloop_id`, classes from the sidecar
    where there is one, else in order of appearance.

    Raises:
        DataError: not an export, an image of unknown size, a region that is not a labeled rectangle.
    """
    side = read_sidecar(path) or NO_SIDECAR
    known = {image.image_id: image for image in side.images}
    classes = ClassIds(side.categories, first=0)
    images: list[ImageRecord] = []
    boxes: list[Box] = []
    unlabeled: set[ImageId] = set()
    for number, task in enumerate(read_tasks(path), start=1):
        image, drawn = _image_and_boxes(task, number, known, path)
        images.append(image)
        if latest(task) is None:
            unlabeled.add(image.image_id)
        for position, (label, corners) in enumerate(drawn):
            crowd = int(side.is_crowd(image.image_id, position))
            category_id = classes.id_of(label)
            boxes.append(Box(len(boxes) + 1, image.image_id, category_id, xywh_from_corners(corners), crowd))
    refuse_lost_images(path, side, images)
    seen = not side.categories
    return Records(images, classes.categories, boxes, frozenset(unlabeled), classes_are_seen=seen)


def _image_and_boxes(
    task: Mapping[str, Any], number: int, known: Mapping[ImageId, ImageRecord], path: Path
) -> tuple[ImageRecord, Drawn]:
    try:
        regions = (latest(task) or {}).get("result") or []
        image = _image(task["data"], number, regions, known)
        return image, [parsed_region(item, (image.width, image.height)) for item in regions]
    except UNUSABLE as error:
        name = task["data"].get("alloop_id", task["data"].get("image", "?"))
        msg = f"{path}: task {number} ({name}) cannot be used: {error}"
        raise DataError(msg) from error


def _image(
    data: Mapping[str, Any], number: int, regions: Sequence[Any], known: Mapping[ImageId, ImageRecord]
) -> ImageRecord:
    image_id = ImageId(int(data.get("alloop_id", number)))
    if image_id in known:
        return known[image_id]
    drawn_on: Mapping[str, Any] = next((item for item in regions if "original_width" in item), {})
    width = data.get("width", drawn_on.get("original_width"))
    height = data.get("height", drawn_on.get("original_height"))
    if not isinstance(width, int) or not isinstance(height, int):
        msg = "its size is unknown; give data.width and data.height"
        raise TypeError(msg)
    return ImageRecord(image_id, _file_name(data), width, height)


def _file_name(data: Mapping[str, Any]) -> str:
    """Return the name of the image of a task; the server puts eight digits before the name of an uploaded file."""
    name = str(data.get("file_name", data.get("image", "")))
    return _UPLOADED.sub("", name.rpartition("/")[2]) if "/upload/" in name else name


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    """Return one annotated task per image, as an export has them; empty images have an empty annotation."""
    regions = regions_by_image(records, {})
    tasks: list[dict[str, object]] = []
    for image in records.images:
        annotation = {"result": regions[image.image_id], "was_cancelled": False}
        is_labeled = image.image_id not in records.unlabeled
        tasks.append({"data": task_data(image), "annotations": [annotation] if is_labeled else []})
    return _with_page(target, tasks, records) | sidecar_file(records, target)


def _with_page(folder: Path, tasks: Sequence[Mapping[str, object]], records: Records) -> dict[Path, bytes]:
    page = label_config([category.name for category in records.categories])
    return {folder / NAME: json.dumps(tasks, allow_nan=False).encode(), folder / CONFIG: page.encode()}


def _task_files(folder: Path, records: Records, scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _with_page(folder, task_trees(records, scores, f"round {folder.name}"), records)


def _submissions(path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]) -> Submissions:
    submissions: dict[ImageId, ImageSubmissions] = {}
    tasks = {str(task["data"].get("alloop_id")): task for task in read_tasks(path)}
    for image in images:
        task = tasks.get(str(image.image_id))
        if task is not None:
            submissions[image.image_id] = _submissions_of(task, image, path)
    known = {str(image.image_id) for image in images}
    return Submissions(submissions, tuple(name for name in tasks if name not in known))


def _submissions_of(task: Mapping[str, Any], image: ImageRecord, path: Path) -> ImageSubmissions:
    try:
        return submissions_of_task(task, (image.width, image.height))
    except UNUSABLE as error:
        msg = f"{path}: the task of image {image.image_id} cannot be used: {error}"
        raise DataError(msg) from error


LABEL_STUDIO = Format(
    title="Label Studio JSON export",
    how_to_answer="Export JSON as answers.json. Submitted tasks are done, skipped ones are set aside.",
    read=read_label_studio,
    files=_files,
    guess=lambda path: (path / NAME).is_file(),
    image_folder=folder_of_file,
    task_files=_task_files,
    submissions=_submissions,
)
