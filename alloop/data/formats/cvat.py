"""CVAT for images 1.1: one XML file for all images. A folder or an exported zip holds it as `annotations.xml`.

Corners are pixels of the image as displayed. `rotation` turns a box clockwise about its centre, and its
extent is taken. An image tagged `alloop_skip` is set aside; one tagged `alloop_done` is finished
even without a box, since CVAT's file does not distinguish an empty image from one that nobody looked at.
"""

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.carried_names import refuse_lost_names
from alloop.data.formats.classes import ClassIds
from alloop.data.formats.coco import submissions_of_records
from alloop.data.formats.format import NO_HINTS, Format, Hints, folder_of_file
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, refuse_lost_images, sidecar_file
from alloop.data.formats.xml_file import finite_number, parse_xml, unreadable, whole_number, xml_bytes
from alloop.data.image_index import is_hidden, match_names
from alloop.data.notes import Notes
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import ImageSubmissions, Submission, Submissions
from alloop.errors import DataError
from alloop.geometry.boxes import Corners, corners_from_xywh, extent_of_rotated, xywh_from_corners
from alloop.values import ImageId, ImageRecord

NAME = "annotations.xml"
KIND = "CVAT 1.1"
DONE, SKIP = "alloop_done", "alloop_skip"


def read_cvat(path: Path, hints: Hints = NO_HINTS) -> Records:  # noqa: ARG001  its files say everything
    """Read a CVAT 1.1 XML file, or the folder or zip that holds it. Tracks and shapes other than boxes are refused.

    Ids, class order and flags of boxes come from the sidecar where there is one, else from the file.

    Raises:
        DataError: not such a file, or an element that lacks what CVAT writes, named with its image.
    """
    root, side = _root(path), read_sidecar(path) or NO_SIDECAR
    if root.find("track") is not None:
        msg = f"{path}: holds tracks of a video task; export it as 'CVAT for images 1.1'"
        raise DataError(msg)
    declared = side.categories or _categories(root)
    classes, known_ids = ClassIds(declared, first=1), side.image_ids()
    for name in sorted({item.get("label", "") for item in root.iter("box")} - {""} if not declared else ()):
        classes.id_of(name)
    images: list[ImageRecord] = []
    boxes: list[Box] = []
    unlabeled: set[ImageId] = set()
    notes = Notes()
    for element in root.iter("image"):
        where = f"{path}: image {element.get('name', '?')!r}"
        image = _image(element, known_ids, where)
        images.append(image)
        own = list(_boxes(element, image, side, classes, len(boxes) + 1, where, notes))
        tags = _tags(element)
        if SKIP in tags:
            notes.add(f"set aside by the tag {SKIP}; its boxes are left out", where, len(own))
        boxes += [] if SKIP in tags else own
        if SKIP in tags or not (own or DONE in tags):
            unlabeled.add(image.image_id)
            if image.image_id not in side.unlabeled:
                notes.add(f"not labeled: it has no box that counts and no tag {DONE}", where)
    refuse_lost_images(path, side, images)
    seen = not declared
    return Records(images, classes.categories, boxes, frozenset(unlabeled), classes_are_seen=seen, notes=notes.listed())


def _image(element: ET.Element, known_ids: Mapping[str, ImageId], where: str) -> ImageRecord:
    others = {item.tag for item in element} - {"box", "tag"}
    if others:
        msg = f"{where}: holds {', '.join(sorted(others))}; only boxes and tags are understood"
        raise DataError(msg)
    name = _attribute(element, "name", where)
    number, width, height = (whole_number(*_named(element, key, where)) for key in ("id", "width", "height"))
    return ImageRecord(known_ids.get(name, ImageId(number)), name, width, height)


def _boxes(
    element: ET.Element, image: ImageRecord, side: Sidecar, classes: ClassIds, first_id: int, where: str, notes: Notes
) -> Iterator[Box]:
    for position, item in enumerate(element.iter("box")):
        category_id = classes.id_of(_attribute(item, "label", where))
        bbox, flags = xywh_from_corners(_corners(item, where, notes)), side.flags(image.image_id, position)
        yield Box(first_id + position, image.image_id, category_id, bbox, flags.iscrowd, ignore=flags.ignore)


def cvat_tags(path: Path) -> dict[str, set[str]]:
    """Return the tags of each image, by file name.

    Raises:
        DataError: not a CVAT 1.1 file.
    """
    return {element.get("name", ""): _tags(element) for element in _root(path).iter("image")}


def _tags(element: ET.Element) -> set[str]:
    return {tag.get("label", "") for tag in element.iter("tag")}


def _root(path: Path) -> ET.Element:
    try:
        data = _bytes(path)
    except (OSError, KeyError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise unreadable(path, KIND, error) from error
    root = parse_xml(data, path, KIND)
    if root.tag != "annotations":
        msg = f"{path}: expected a CVAT 1.1 XML file with <annotations>, found <{root.tag}>"
        raise DataError(msg)
    return root


def _bytes(path: Path) -> bytes:
    if path.is_dir():
        return (path / NAME).read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            inside = [name for name in archive.namelist() if name.rpartition("/")[2] == NAME and not is_hidden(name)]
            if len(inside) > 1:
                msg = f"holds {', '.join(inside)}; export one task"
                raise ValueError(msg)
            return archive.read(inside[0] if inside else NAME)
    return path.read_bytes()


def _categories(root: ET.Element) -> list[Category]:
    names = [element.findtext("name") or "" for element in root.iter("label")]
    classes = [name for name in names if name not in ("", DONE, SKIP)]
    return [Category(number, name) for number, name in enumerate(classes)]


def _attribute(element: ET.Element, key: str, where: str) -> str:
    return _named(element, key, where)[0]


def _named(element: ET.Element, key: str, where: str) -> tuple[str, str]:
    """Return the text of a required attribute, and how messages call the attribute."""
    text, name = element.get(key), f"{where}: attribute {key!r} of <{element.tag}>"
    if not text:
        raise DataError(f"{name} is missing or empty")
    return text, name


def _corners(item: ET.Element, where: str, notes: Notes) -> Corners:
    x1, y1, x2, y2 = (finite_number(*_named(item, key, where)) for key in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(finite_number(*_named(item, "rotation", where)) % 360) if item.get("rotation") else 0.0
    if angle:
        notes.add("turned; its upright extent is taken", where)
    return extent_of_rotated((x1, y1, x2, y2), angle, ((x1 + x2) / 2, (y1 + y2) / 2))


def cvat_xml(records: Records, finished: Collection[ImageId] = ()) -> bytes:
    """Return the bytes of a CVAT 1.1 file; the finished images are tagged.

    Raises:
        DataError: a name that XML cannot carry.
    """
    refuse_lost_names(records, "CVAT")
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    _add_labels(root, records)
    boxes, names = records.boxes_by_image(), records.category_names()
    for image in records.images:
        element = _add_image(root, image)
        if image.image_id in finished:
            ET.SubElement(element, "tag", label=DONE, source="manual")
        for box in boxes[image.image_id]:
            _add_box(element, box, names[box.category_id])
    return xml_bytes(root)


def _add_labels(root: ET.Element, records: Records) -> None:
    labels = ET.SubElement(ET.SubElement(ET.SubElement(root, "meta"), "task"), "labels")
    for name in [*(category.name for category in records.categories), DONE, SKIP]:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "attributes")


def _add_image(root: ET.Element, image: ImageRecord) -> ET.Element:
    size = {"width": str(image.width), "height": str(image.height)}
    return ET.SubElement(root, "image", {"id": str(image.image_id), "name": image.file_name} | size)


def _add_box(element: ET.Element, box: Box, label: str) -> None:
    corners = zip(("xtl", "ytl", "xbr", "ybr"), corners_from_xywh(box.bbox), strict=True)
    attributes = {"label": label, "source": "manual", "occluded": "0", "z_order": "0"}
    ET.SubElement(element, "box", attributes | {key: f"{value:.10g}" for key, value in corners})


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    finished = {image.image_id for image in records.images} - records.unlabeled
    return {target / NAME: cvat_xml(records, finished)} | sidecar_file(records, target)


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return {folder / "tasks.xml": cvat_xml(records)}


def _submissions(path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]) -> Submissions:
    drawn, tags = submissions_of_records(read_cvat(path), images, path), cvat_tags(path)
    matches = match_names(tags, images, str(path))
    nothing = ImageSubmissions()
    tagged = {
        image.image_id: _tagged(drawn.by_image.get(image.image_id, nothing), tags[name])
        for name, image in matches.by_name.items()
    }
    return Submissions(tagged, drawn.unknown, drawn.notes)


def _tagged(drawn: ImageSubmissions, tags: Collection[str]) -> ImageSubmissions:
    if SKIP in tags:
        return ImageSubmissions((Submission(is_skip=True),))
    if DONE in tags:
        return drawn
    return ImageSubmissions(has_draft=any(submission.boxes for submission in drawn.submissions))


CVAT = Format(
    title="CVAT for images 1.1, as XML, zip or folder",
    how_to_answer="Export 'CVAT for images 1.1' as answers.zip or answers.xml. Tag a finished image with alloop_done "
    "and one that should be set aside with alloop_skip: the file does not tell an empty image from an untouched one.",
    read=read_cvat,
    files=_files,
    guess=lambda path: path.suffix in (".xml", ".zip") or (path / NAME).is_file(),
    image_folder=folder_of_file,
    task_files=_task_files,
    submissions=_submissions,
)
