"""Pascal VOC folders: one XML file per image. Corners are taken as written.

An object that is `difficult` counts neither as found nor as missed. A crowd is written as difficult, and the sidecar
knows that it is one.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.carried_names import refuse_lost_names
from alloop.data.formats.classes import ClassIds
from alloop.data.formats.format import NO_HINTS, Format, Hints
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, sidecar_file
from alloop.data.formats.voc_layout import image_name, voc_files, voc_root, voc_source
from alloop.data.formats.xml_file import finite_number, parse_xml, unreadable, whole_number, xml_bytes
from alloop.data.image_index import index_of_folder, match_names
from alloop.data.notes import Notes
from alloop.data.records import Box, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, Submissions, size_problem
from alloop.errors import DataError
from alloop.geometry.boxes import Corners, corners_from_xywh, extent_of_rotated, xywh_from_corners
from alloop.values import ImageId, ImageRecord


def read_voc(path: Path, hints: Hints = NO_HINTS) -> Records:
    """Read a folder of XML files (or its `Annotations` subfolder), or a list of it such as `ImageSets/Main/train.txt`.

    Ids and class order come from the sidecar where there is one, else classes are sorted by name. Sizes that a file
    lacks are those of the images.

    Raises:
        DataError: no XML, a file that lacks what VOC requires, named with its key, or two files of one image.
    """
    folder, stems = voc_root(path)
    source, notes, side = voc_source(folder), Notes(), read_sidecar(folder)
    files = voc_files(source, notes) if stems is None else [source / f"{stem}.xml" for stem in stems]
    if not files and side is None:
        msg = f"{folder}: expected a folder of Pascal VOC XML files, found none"
        raise DataError(msg)
    known = hints if hints.images is not None else Hints(index_of_folder(_image_folder(path)))
    known_ids = (side or NO_SIDECAR).image_ids()
    free_ids = itertools.count(max(known_ids.values(), default=0) + 1)
    of_name: dict[str, Path] = {}
    images: list[ImageRecord] = []
    drawn: list[tuple[ImageRecord, DrawnBox]] = []
    for file in files:
        root = _parse(file)
        name = _name(root, file, source, known_ids, known, notes)
        if name in of_name:
            msg = f"{of_name[name]} and {file} are both of the image {name!r}; mend <filename> in one of them"
            raise DataError(msg)
        of_name[name] = file
        image_id = known_ids[name] if name in known_ids else ImageId(next(free_ids))
        images.append(ImageRecord(image_id, name, *_size(root, file, name, known, notes)))
        drawn += [(images[-1], box) for box in _drawn(root, file, notes)]
    if stems is None:
        images += _unlabeled(side or NO_SIDECAR, images)
        _refuse_lost_files(folder, source, side, images)
    return _records(images, drawn, side or NO_SIDECAR, notes)


def _name(
    root: ET.Element, file: Path, source: Path, known_ids: Mapping[str, ImageId], known: Hints, notes: Notes
) -> str:
    written = root.findtext("filename") or ""
    if written in known_ids:
        return written
    if known.images is None or not known.images.names:
        return _text(root, "filename", file)
    return image_name(written.strip(), file, source, known.images, notes)


def _size(root: ET.Element, file: Path, name: str, known: Hints, notes: Notes) -> tuple[int, int]:
    """Return (width, height) as the file says, else of the image."""
    texts = [(root.findtext(f"size/{key}") or "").strip() for key in ("width", "height")]
    if all(text in ("", "0") for text in texts):
        size = known.size_of(name, f"{file}: <size>")
        notes.add("<size> is missing or 0; taken from the image", str(file))
        return size
    width, height = (
        whole_number(_text(root, f"size/{key}", file), f"{file}: <size/{key}>") for key in ("width", "height")
    )
    return width, height


def _refuse_lost_files(folder: Path, source: Path, side: Sidecar | None, images: Sequence[ImageRecord]) -> None:
    """Check that every image of the sidecar still has its file: a lost file is not an empty image."""
    present = {image.file_name for image in images}
    for image in side.images if side else ():
        if image.file_name not in present:
            lost = source / Path(image.file_name).with_suffix(".xml")
            msg = f"{folder}: image {image.image_id} is listed in alloop.json, but {lost} is missing; restore it"
            raise DataError(msg)


def _unlabeled(side: Sidecar, images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Return the images that have no file because nobody has finished annotating them."""
    present = {image.image_id for image in images}
    return [image for image in side.images if image.image_id in side.unlabeled and image.image_id not in present]


def _records(
    images: list[ImageRecord], drawn: Sequence[tuple[ImageRecord, DrawnBox]], side: Sidecar, notes: Notes
) -> Records:
    classes = ClassIds(side.categories, first=1)
    for name in sorted({box.label for _, box in drawn}):
        classes.id_of(name)
    positions: Counter[ImageId] = Counter()
    boxes: list[Box] = []
    for number, (image, box) in enumerate(drawn, start=1):
        crowd = box.ignore and side.flags(image.image_id, positions[image.image_id]).iscrowd
        ignore = box.ignore - crowd
        boxes.append(Box(number, image.image_id, classes.id_of(box.label), box.bbox, crowd, ignore=ignore))
        positions[image.image_id] += 1
    unlabeled = frozenset(side.unlabeled) & {image.image_id for image in images}
    seen = not side.categories
    return Records(images, classes.categories, boxes, unlabeled, classes_are_seen=seen, notes=notes.listed())


def _parse(file: Path) -> ET.Element:
    try:
        data = file.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(file, "VOC", error) from error
    return parse_xml(data, file, "VOC")


def _text(element: ET.Element, key: str, file: Path) -> str:
    text = element.findtext(key)
    if text is None or not text.strip():
        msg = f"{file}: key <{key}> is missing or empty"
        raise DataError(msg)
    return text.strip()


def _number(element: ET.Element, key: str, file: Path) -> float:
    return finite_number(_text(element, key, file), f"{file}: <{key}>")


def _drawn(root: ET.Element, file: Path, notes: Notes) -> Iterator[DrawnBox]:
    for item in root.findall("object"):
        difficult = (item.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            msg = f"{file}: <difficult>: expected 0 or 1, found {difficult[:40]!r}"
            raise DataError(msg)
        label = _text(item, "name", file)
        if label != item.findtext("name"):
            notes.add("blanks around <name> were removed", f"{file}: {item.findtext('name')!r}")
        yield DrawnBox(label, xywh_from_corners(_corners(item, file, notes)), ignore=int(difficult))


def _corners(item: ET.Element, file: Path, notes: Notes) -> Corners:
    """Return the corners of an object; of a turned box the corners of its upright extent.

    `<robndbox>` has a centre, sides, and an angle in radians; the attribute `rotation` that CVAT writes is in degrees.
    Both turn clockwise on the screen about the centre of the box.
    """
    if item.find("bndbox") is None and item.find("robndbox") is not None:
        cx, cy, w, h = (_number(item, f"robndbox/{key}", file) for key in ("cx", "cy", "w", "h"))
        corners, angle = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), _number(item, "robndbox/angle", file)
    else:
        x1, y1, x2, y2 = (_number(item, f"bndbox/{key}", file) for key in ("xmin", "ymin", "xmax", "ymax"))
        corners, angle = (x1, y1, x2, y2), math.radians(_rotation(item, file) % 360)
    if angle:
        notes.add("turned; its upright extent is taken", f"{file}: {item.findtext('name')}")
    return extent_of_rotated(corners, angle, ((corners[0] + corners[2]) / 2, (corners[1] + corners[3]) / 2))


def _rotation(item: ET.Element, file: Path) -> float:
    for attribute in item.findall("attributes/attribute"):
        if (attribute.findtext("name") or "").strip() == "rotation":
            return _number(attribute, "value", file)
    return 0.0


def voc_xml(image: ImageRecord, boxes: Sequence[Box], names: Mapping[int, str]) -> bytes:
    """Return the bytes of one VOC file; `names` are the class names by category id."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image.file_name
    size = ET.SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    for box in boxes:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = names[box.category_id]
        ET.SubElement(item, "difficult").text = str(int(bool(box.iscrowd or box.ignore)))
        bndbox = ET.SubElement(item, "bndbox")
        for key, edge in zip(("xmin", "ymin", "xmax", "ymax"), corners_from_xywh(box.bbox), strict=True):
            ET.SubElement(bndbox, key).text = f"{edge:.10g}"
    return xml_bytes(root)


def _xml_files(records: Records, target: Path) -> dict[Path, bytes]:
    """Return one file per image, also for empty images.

    Raises:
        DataError: two images whose names differ only in the suffix, or a name that XML cannot carry.
    """
    refuse_lost_names(records, "VOC")
    boxes, names = records.boxes_by_image(), records.category_names()
    files: dict[Path, bytes] = {}
    for image in records.images:
        file = target / "Annotations" / Path(image.file_name).with_suffix(".xml")
        if image.image_id in records.unlabeled:
            continue
        if file in files:
            msg = f"image {image.image_id}: {file.name} is taken; VOC needs names that differ before the suffix"
            raise DataError(msg)
        files[file] = voc_xml(image, boxes[image.image_id], names)
    return files


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return _xml_files(records, target) | sidecar_file(records, target)


def _image_folder(path: Path) -> Path:
    folder, _ = voc_root(path)
    return folder / "JPEGImages" if (folder / "JPEGImages").is_dir() else folder


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _xml_files(records, folder / "tasks")


def _submissions(path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]) -> Submissions:
    """Return a submission for each image of the pool whose file is there, in whatever folder of the answers."""
    source, notes = voc_source(path), Notes()
    files = {file.relative_to(source).with_suffix("").as_posix(): file for file in voc_files(source, notes)}
    matches = match_names(files, images, str(source))
    by_image = {
        image.image_id: ImageSubmissions((_submission(files[stem], image, notes),))
        for stem, image in matches.by_name.items()
    }
    return Submissions(by_image, matches.unknown, (*matches.notes, *notes.listed()))


def _submission(file: Path, image: ImageRecord, notes: Notes) -> Submission:
    root = _parse(file)
    width, height = _number(root, "size/width", file), _number(root, "size/height", file)
    problem = size_problem((width, height), (image.width, image.height))
    return Submission(problem=problem) if problem else Submission(tuple(_drawn(root, file, notes)))


VOC = Format(
    title="Pascal VOC, a folder of XML files or a list of ImageSets",
    how_to_answer="Write answers/Annotations/NAME.xml for every finished image, without an object for an empty one.",
    read=read_voc,
    files=_files,
    guess=lambda path: path.suffix == ".txt" or path.is_dir(),
    image_folder=_image_folder,
    task_files=_task_files,
    submissions=_submissions,
    images="JPEGImages",
)
