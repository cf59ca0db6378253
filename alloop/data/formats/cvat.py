"""CVAT for images 1.1: one XML file for all images. A folder or an exported zip holds it as `annotations.xml`.

Corners are pixels of the image as displayed; `rotation` turns a box clockwise about its centre, and its
extent is taken. An image tagged `alloop_skip` was set aside, one tagged `alloop_done` is finished
even without a box: CVAT's file does not tell an empty image from one that nobody looked at.
"""

import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.sidecar import read_sidecar, refuse_lost_images
from alloop.data.records import Box, Category, Image, Records
from alloop.errors import DataError

NAME = "annotations.xml"
DONE, SKIP = "alloop_done", "alloop_skip"

Corners = tuple[float, float, float, float]


def read_cvat(path: Path) -> Records:
    """Read a CVAT 1.1 XML file, the folder or the zip that holds it. Tracks and shapes other than boxes are refused.

    Ids, class order and crowd flags come from the sidecar where there is one, else from the file.

    Raises:
        DataError: not such a file, or an element that lacks what CVAT writes, named with its image.
    """
    root, side = _root(path), read_sidecar(path) if path.is_dir() else None
    if root.find("track") is not None:
        msg = f"{path}: holds tracks of a video task; export it as 'CVAT for images 1.1'"
        raise DataError(msg)
    categories = list(side.categories) if side else _categories(root)
    ids = {category.name: category.id for category in categories}
    known = {image.file_name: image.id for image in side.images} if side else {}
    crowd = {image_id: set(numbers) for image_id, numbers in side.crowd.items()} if side else {}
    images: list[Image] = []
    boxes: list[Box] = []
    for element in root.iter("image"):
        where = f"{path}: image {element.get('name', '?')!r}"
        name = _attribute(element, "name", where)
        number, width, height = (_whole(element, key, where) for key in ("id", "width", "height"))
        image = Image(known.get(name, number), name, width, height)
        images.append(image)
        _refuse_other_shapes(element, where)
        for number, item in enumerate(element.iter("box")):
            label = _attribute(item, "label", where)
            if label not in ids:
                ids[label] = max(ids.values(), default=0) + 1
                categories.append(Category(ids[label], label))
            x1, y1, x2, y2 = _corners(item, where)
            flag = int(number in crowd.get(image.id, ()))
            boxes.append(Box(len(boxes) + 1, image.id, ids[label], (x1, y1, x2 - x1, y2 - y1), flag))
    refuse_lost_images(path, side, images)
    return Records(images, categories, boxes)


def cvat_tags(path: Path) -> dict[str, set[str]]:
    """The labels that each image is tagged with, by file name."""
    return {
        element.get("name", ""): {tag.get("label", "") for tag in element.iter("tag")}
        for element in _root(path).iter("image")
    }


def _root(path: Path) -> ET.Element:
    try:
        data = _bytes(path)
        if b"<!ENTITY" in data:
            msg = f"{path}: holds an XML entity, which a CVAT file has no use for; remove it"
            raise DataError(msg)
        root = ET.fromstring(data)  # entities refused above, expat itself limits expansion
    except (OSError, KeyError, zipfile.BadZipFile, ET.ParseError, ValueError, LookupError, RecursionError) as error:
        msg = f"{path}: expected a CVAT 1.1 XML file, but it cannot be read ({error})"
        raise DataError(msg) from error
    if root.tag != "annotations":
        msg = f"{path}: expected a CVAT 1.1 XML file with <annotations>, found <{root.tag}>"
        raise DataError(msg)
    return root


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        return (path / NAME).read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(NAME)
    return path.read_bytes()


def _categories(root: ET.Element) -> list[Category]:
    names = [element.findtext("name") or "" for element in root.iter("label")]
    return [Category(k, name) for k, name in enumerate(n for n in names if n not in ("", DONE, SKIP))]


def _refuse_other_shapes(element: ET.Element, where: str) -> None:
    others = {item.tag for item in element} - {"box", "tag"}
    if others:
        msg = f"{where}: holds {', '.join(sorted(others))}; only boxes and tags are understood"
        raise DataError(msg)


def _attribute(element: ET.Element, key: str, where: str) -> str:
    found = element.get(key)
    if not found:
        msg = f"{where}: attribute {key!r} of <{element.tag}> is missing or empty"
        raise DataError(msg)
    return found


def _number(element: ET.Element, key: str, where: str) -> float:
    text = _attribute(element, key, where)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        msg = f"{where}: attribute {key!r} of <{element.tag}>: expected a finite number, found {text[:40]!r}"
        raise DataError(msg)
    return number


def _whole(element: ET.Element, key: str, where: str) -> int:
    number = _number(element, key, where)
    if not number.is_integer():
        msg = f"{where}: attribute {key!r} of <{element.tag}>: expected a whole number, found {number:g}"
        raise DataError(msg)
    return int(number)


def _corners(item: ET.Element, where: str) -> Corners:
    x1, y1, x2, y2 = (_number(item, key, where) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(_number(item, "rotation", where)) if item.get("rotation") else 0.0
    return extent_of_rotated((x1, y1, x2, y2), angle, ((x1 + x2) / 2, (y1 + y2) / 2))


def extent_of_rotated(box: Corners, angle: float, centre: tuple[float, float]) -> Corners:
    """The upright box around a box turned clockwise on the screen by `angle` radians about a point."""
    if not angle:
        return box
    (x1, y1, x2, y2), (cx, cy) = box, centre
    sin, cos = math.sin(angle), math.cos(angle)
    turned = [
        (cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos) for x in (x1, x2) for y in (y1, y2)
    ]
    xs, ys = [x for x, _ in turned], [y for _, y in turned]
    return min(xs), min(ys), max(xs), max(ys)


def cvat_xml(records: Records, done: Iterable[int] = ()) -> bytes:
    """A CVAT 1.1 file; images of `done` are tagged as finished."""
    finished = set(done)
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in [*(category.name for category in records.categories), DONE, SKIP]:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "attributes")
    names = {category.id: category.name for category in records.categories}
    elements = {}
    for image in records.images:
        facts = {"id": str(image.id), "name": image.file_name, "width": str(image.width), "height": str(image.height)}
        elements[image.id] = ET.SubElement(root, "image", facts)
        if image.id in finished:
            ET.SubElement(elements[image.id], "tag", label=DONE, source="manual")
    for box in records.annotations:
        x, y, w, h = box.bbox
        edges = {"xtl": x, "ytl": y, "xbr": x + w, "ybr": y + h}
        corners = {key: f"{value:.10g}" for key, value in edges.items()}
        facts = {"label": names[box.category_id], "source": "manual", "occluded": "0", "z_order": "0"}
        ET.SubElement(elements[box.image_id], "box", facts | corners)
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data
