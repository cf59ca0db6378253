"""Label Studio's JSON: tasks with annotations, as the server exports them and as files are exchanged.

A box is `x, y, width, height` in per cent of the image as displayed, `rotation` in degrees clockwise
about its top left corner, in pixels. Images are known by `data.alloop_id`, never by the server's own ids.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from alloop.data.formats.cvat import Corners, extent_of_rotated
from alloop.data.formats.sidecar import read_sidecar, refuse_lost_images
from alloop.data.records import Box, Category, Image, Records
from alloop.errors import DataError

NAME, CONFIG = "tasks.json", "label_config.xml"
FROM_NAME, TO_NAME = "label", "image"
# told apart in the page by readers who see colours differently as well
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8B5A2B", "#6A3D9A")


def label_config(class_names: Sequence[str]) -> str:
    """The labeling page of a project: boxes that show, cannot be turned, one label each."""
    view = ET.Element("View")
    ET.SubElement(view, "Image", name=TO_NAME, value="$image", zoom="true")
    look = {"name": FROM_NAME, "toName": TO_NAME, "strokeWidth": "3", "opacity": "0.2", "canRotate": "false"}
    labels = ET.SubElement(view, "RectangleLabels", look)
    for number, name in enumerate(class_names):
        ET.SubElement(labels, "Label", value=name, background=COLOURS[number % len(COLOURS)])
    return ET.tostring(view, encoding="unicode")


def region(corners: Corners, label: str, size: tuple[int, int], number: int, score: float | None = None) -> Any:
    """One box of a prediction or an annotation."""
    (x1, y1, x2, y2), (width, height) = corners, size
    tree = {
        "id": f"alloop{number}",
        "type": "rectanglelabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x1 / width,
            "y": 100 * y1 / height,
            "width": 100 * (x2 - x1) / width,
            "height": 100 * (y2 - y1) / height,
            "rotation": 0,
            "rectanglelabels": [label],
        },
    }
    return tree if score is None else tree | {"score": score}


def corners_of(item: Mapping[str, Any], size: tuple[int, int]) -> tuple[str, Corners]:
    """Label and corners in pixels of one region; a rotated box gives its upright extent.

    Raises:
        ValueError: not a rectangle with exactly one label, another image size, a number that is not finite.
    """
    width, height = size
    found = (item.get("original_width", width), item.get("original_height", height))
    if found != size:
        raise ValueError(f"drawn on an image of {found[0]} x {found[1]}, the pool says {width} x {height}")
    value = item.get("value")
    labels = value.get("rectanglelabels") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not isinstance(labels, list) or len(labels) != 1:
        raise ValueError(
            f"a region of type {item.get('type')!r} with labels {labels!r}; one labeled rectangle expected"
        )
    try:
        x, y, w, h, degrees = (float(value.get(key, 0)) for key in ("x", "y", "width", "height", "rotation"))
    except TypeError:
        raise ValueError(f"a box that is no numbers: {value!r}") from None
    if not all(math.isfinite(number) for number in (x, y, w, h, degrees)):
        raise ValueError(f"a box that is not finite: {value!r}")
    x1, y1 = x * width / 100, y * height / 100
    corners = (x1, y1, x1 + w * width / 100, y1 + h * height / 100)
    return str(labels[0]), extent_of_rotated(corners, math.radians(degrees), (x1, y1))


def read_tasks(path: Path) -> list[dict[str, Any]]:
    """The tasks of an export, or of the folder that holds it.

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


def latest(task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The newest annotation of a task that is not a skip."""
    kept = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
    return max(kept, key=lambda a: (str(a.get("updated_at", "")), a.get("id") or 0), default=None)


def read_label_studio(path: Path) -> Records:
    """Read an export: the newest annotation of each task; tasks without one are images without a box.

    Sizes come from the task's data or its regions, ids from `data.alloop_id`, classes from the sidecar
    where there is one, else in order of appearance.

    Raises:
        DataError: not an export, an image of unknown size, a region that is not a labeled rectangle.
    """
    side = read_sidecar(path) if path.is_dir() else None
    known = {image.id: image for image in side.images} if side else {}
    crowd = {image_id: set(numbers) for image_id, numbers in side.crowd.items()} if side else {}
    categories = list(side.categories) if side else []
    ids = {category.name: category.id for category in categories}
    images: list[Image] = []
    boxes: list[Box] = []
    for number, task in enumerate(read_tasks(path), start=1):
        try:
            regions = (latest(task) or {}).get("result") or []
            image = _image(task, number, regions, known)
            drawn = [corners_of(item, (image.width, image.height)) for item in regions]
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            name = task["data"].get("alloop_id", task["data"].get("image", "?"))
            msg = f"{path}: task {number} ({name}) cannot be used: {error}"
            raise DataError(msg) from error
        images.append(image)
        for place, (label, (x1, y1, x2, y2)) in enumerate(drawn):
            if label not in ids:
                ids[label] = max(ids.values(), default=-1) + 1
                categories.append(Category(ids[label], label))
            flag = int(place in crowd.get(image.id, ()))
            boxes.append(Box(len(boxes) + 1, image.id, ids[label], (x1, y1, x2 - x1, y2 - y1), flag))
    refuse_lost_images(path, side, images)
    return Records(images, categories, boxes)


def _image(task: Mapping[str, Any], number: int, regions: Sequence[Any], known: Mapping[int, Image]) -> Image:
    data = task["data"]
    image_id = int(data.get("alloop_id", number))
    if image_id in known:
        return known[image_id]
    drawn: Mapping[str, Any] = next((item for item in regions if "original_width" in item), {})
    width = data.get("width", drawn.get("original_width"))
    height = data.get("height", drawn.get("original_height"))
    if not isinstance(width, int) or not isinstance(height, int):
        raise TypeError("its size is unknown; give data.width and data.height")
    return Image(image_id, str(data.get("file_name", data.get("image", ""))), width, height)


def tasks_of(records: Records) -> list[dict[str, Any]]:
    """Annotated tasks, as an export has them; every image has one annotation, empty ones too."""
    names = {category.id: category.name for category in records.categories}
    by_image: dict[int, list[Box]] = {image.id: [] for image in records.images}
    for box in records.annotations:
        by_image[box.image_id].append(box)
    tasks = []
    for image in records.images:
        size = (image.width, image.height)
        drawn = [(b.bbox, names[b.category_id]) for b in by_image[image.id]]
        result = [region((x, y, x + w, y + h), name, size, k) for k, ((x, y, w, h), name) in enumerate(drawn)]
        tasks.append({"data": task_data(image), "annotations": [{"result": result, "was_cancelled": False}]})
    return tasks


def task_data(image: Image) -> dict[str, Any]:
    """What a task says of its image; the address of the pixels is the file name until a server has another."""
    return {
        "alloop_id": image.id,
        "file_name": image.file_name,
        "image": image.file_name,
        "width": image.width,
        "height": image.height,
    }
