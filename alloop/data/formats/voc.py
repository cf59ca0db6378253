"""Pascal VOC folders: one XML file per image. Corners are taken as written, `difficult` is the crowd flag."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.classes import ClassIds
from alloop.data.formats.format import NO_HINTS, Format, Hints
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, sidecar_file
from alloop.data.formats.xml_file import finite_number, parse_xml, unreadable, whole_number, xml_bytes
from alloop.data.records import Box, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, Submissions, size_problem
from alloop.errors import DataError
from alloop.geometry.boxes import corners_from_xywh, xywh_from_corners
from alloop.values import ImageId, ImageRecord


def read_voc(path: Path, hints: Hints = NO_HINTS) -> Records:  # noqa: ARG001  its files say everything
    """Read a folder of XML files (or its `Annotations` subfolder), or a list of it such as `ImageSets/Main/train.txt`.

    Ids and class order come from the sidecar where there is one, else classes are sorted by name.

    Raises:
        DataError: no XML, or a file that lacks what VOC requires, named with its key.
    """
    folder, stems = voc_root(path)
    source = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    files = sorted(source.rglob("*.xml")) if stems is None else [source / f"{stem}.xml" for stem in stems]
    side = read_sidecar(folder)
    if not files and side is None:
        msg = f"{folder}: expected a folder of Pascal VOC XML files, found none"
        raise DataError(msg)
    known_ids = (side or NO_SIDECAR).image_ids()
    free_ids = itertools.count(max(known_ids.values(), default=0) + 1)
    images: list[ImageRecord] = []
    drawn: list[tuple[ImageRecord, DrawnBox]] = []
    for file in files:
        root = _parse(file)
        image = _image(root, file, known_ids, free_ids)
        images.append(image)
        drawn += [(image, box) for box in _drawn(root, file)]
    if stems is None:
        images += _unlabeled(side or NO_SIDECAR, images)
        _refuse_lost_files(folder, source, side, images)
    return _records(images, drawn, side or NO_SIDECAR)


def voc_root(path: Path) -> tuple[Path, list[str] | None]:
    """Return the folder of a VOC data set, and the stems that a list of `ImageSets` names.

    Raises:
        DataError: a list that cannot be read.
    """
    if path.suffix != ".txt":
        return path, None
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a list of image names, but it cannot be read ({error})"
        raise DataError(msg) from error
    if any(len(words) > 1 and words[1] not in ("0", "1", "-1") for words in lines) or len(path.parents) < 3:
        msg = f"{path}: expected one image name per line, as in ImageSets/Main/train.txt"
        raise DataError(msg)
    return path.parents[2], [words[0] for words in lines if words[1:] != ["-1"]]


def _image(root: ET.Element, file: Path, known_ids: Mapping[str, ImageId], free_ids: Iterator[int]) -> ImageRecord:
    name = _text(root, "filename", file)
    width = whole_number(_text(root, "size/width", file), f"{file}: <size/width>")
    height = whole_number(_text(root, "size/height", file), f"{file}: <size/height>")
    image_id = known_ids[name] if name in known_ids else ImageId(next(free_ids))
    return ImageRecord(image_id, name, width, height)


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


def _records(images: list[ImageRecord], drawn: Sequence[tuple[ImageRecord, DrawnBox]], side: Sidecar) -> Records:
    classes = ClassIds(side.categories, first=1)
    for name in sorted({box.label for _, box in drawn}):
        classes.id_of(name)
    boxes = [
        Box(number, image.image_id, classes.id_of(box.label), box.bbox, box.iscrowd)
        for number, (image, box) in enumerate(drawn, start=1)
    ]
    unlabeled = frozenset(side.unlabeled) & {image.image_id for image in images}
    return Records(images, classes.categories, boxes, unlabeled, classes_are_seen=not side.categories)


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


def _drawn(root: ET.Element, file: Path) -> Iterator[DrawnBox]:
    for item in root.findall("object"):
        x1, y1, x2, y2 = (_number(item, f"bndbox/{key}", file) for key in ("xmin", "ymin", "xmax", "ymax"))
        difficult = (item.findtext("difficult") or "0").strip()
        if difficult not in ("0", "1"):
            msg = f"{file}: <difficult>: expected 0 or 1, found {difficult[:40]!r}"
            raise DataError(msg)
        yield DrawnBox(_text(item, "name", file), xywh_from_corners((x1, y1, x2, y2)), int(difficult))


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
        ET.SubElement(item, "difficult").text = str(box.iscrowd)
        bndbox = ET.SubElement(item, "bndbox")
        for key, edge in zip(("xmin", "ymin", "xmax", "ymax"), corners_from_xywh(box.bbox), strict=True):
            ET.SubElement(bndbox, key).text = f"{edge:.10g}"
    return xml_bytes(root)


def _xml_files(records: Records, target: Path) -> dict[Path, bytes]:
    """Return one file per image, also for empty images.

    Raises:
        DataError: two images whose names differ only in the suffix.
    """
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
    """Return a submission for each image of the pool whose file is there."""
    files = {image: path / "Annotations" / Path(image.file_name).with_suffix(".xml") for image in images}
    return Submissions(
        {
            image.image_id: ImageSubmissions((_submission(file, image),))
            for image, file in files.items()
            if file.is_file()
        }
    )


def _submission(file: Path, image: ImageRecord) -> Submission:
    root = _parse(file)
    width, height = _number(root, "size/width", file), _number(root, "size/height", file)
    problem = size_problem((width, height), (image.width, image.height))
    return Submission(problem=problem) if problem else Submission(tuple(_drawn(root, file)))


VOC = Format(
    title="Pascal VOC, a folder of XML files or a list of ImageSets",
    how_to_answer="Write answers/Annotations/NAME.xml for every finished image, without an object for an empty one.",
    read=read_voc,
    files=_files,
    guess=lambda path: path.suffix == ".txt" or path.is_dir(),
    image_folder=_image_folder,
    task_files=_task_files,
    submissions=_submissions,
)
