"""Pascal VOC folders: one XML file an image. Corners are taken as written, `difficult` is the crowd flag."""

from pathlib import Path
from xml.etree import ElementTree as ET

from alloop.data.formats.sidecar import read_sidecar
from alloop.data.records import Box, Category, Image, Records
from alloop.errors import DataError


def read_voc(folder: Path) -> Records:
    """Read a folder of XML files (or its `Annotations` subfolder), or a list of it such as `ImageSets/Main/train.txt`.

    Ids and class order come from the sidecar where there is one, else from sorted names.

    Raises:
        DataError: no XML, or a file that lacks what VOC requires, named with its key.
    """
    folder, stems = voc_root(folder)
    inner = folder / "Annotations"
    source = inner if inner.is_dir() else folder
    paths = sorted(source.rglob("*.xml")) if stems is None else [source / f"{stem}.xml" for stem in stems]
    side = read_sidecar(folder)
    if not paths and side is None:
        msg = f"{folder}: expected a folder of Pascal VOC XML files, found none"
        raise DataError(msg)
    known_ids = {image.file_name: image.id for image in side.images} if side else {}
    images: list[Image] = []
    drawn: list[tuple[int, str, tuple[float, float, float, float], int]] = []
    free_id = max(known_ids.values(), default=0)
    for path in paths:
        root = _parse(path)
        file_name = _text(root, "filename", path)
        if file_name not in known_ids:
            free_id += 1
        image_id = known_ids.get(file_name, free_id)
        size = (_number(root, "size/width", path), _number(root, "size/height", path))
        if not all(side.is_integer() for side in size):
            msg = f"{path}: <size>: expected whole pixels, found {size[0]:g} x {size[1]:g}"
            raise DataError(msg)
        images.append(Image(image_id, file_name, int(size[0]), int(size[1])))
        drawn += [(image_id, *_object(item, path)) for item in root.findall("object")]
    if side and stems is None:
        found = {image.file_name for image in images}
        for image in side.images:
            if image.file_name not in found:
                lost = source / Path(image.file_name).with_suffix(".xml")
                msg = f"{folder}: image {image.id} is listed in alloop.json, but {lost} is missing; restore it"
                raise DataError(msg)
    names = sorted({name for _, name, _, _ in drawn})
    categories = list(side.categories) if side else []
    unlisted = [name for name in names if name not in {c.name for c in categories}]
    first = max((c.id for c in categories), default=0) + 1
    categories += [Category(first + number, name) for number, name in enumerate(unlisted)]
    ids = {category.name: category.id for category in categories}
    boxes = [
        Box(number, image_id, ids[name], bbox, crowd)
        for number, (image_id, name, bbox, crowd) in enumerate(drawn, start=1)
    ]
    return Records(images, categories, boxes)


def voc_root(path: Path) -> tuple[Path, list[str] | None]:
    """The folder of a VOC data set, and the stems that a list of `ImageSets` names.

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
        msg = f"{path}: expected one image name a line, as in ImageSets/Main/train.txt"
        raise DataError(msg)
    return path.parents[2], [words[0] for words in lines if words[1:] != ["-1"]]


def _parse(path: Path) -> ET.Element:
    try:
        data = path.read_bytes()
        if b"<!ENTITY" in data:
            msg = f"{path}: holds an XML entity, which a VOC file has no use for; remove it"
            raise DataError(msg)
        return ET.fromstring(data)  # entities refused above, expat itself limits expansion
    except (OSError, ET.ParseError, ValueError, LookupError, RecursionError) as error:
        msg = f"{path}: expected a VOC XML file, but it cannot be read ({error})"
        raise DataError(msg) from error


def _text(element: ET.Element, key: str, path: Path) -> str:
    found = element.findtext(key)
    if found is None or not found.strip():
        msg = f"{path}: key <{key}> is missing or empty"
        raise DataError(msg)
    return found.strip()


def _number(element: ET.Element, key: str, path: Path) -> float:
    text = _text(element, key, path)
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        msg = f"{path}: <{key}>: expected a finite number, found {text[:40]!r}"
        raise DataError(msg)
    return number


def _object(item: ET.Element, path: Path) -> tuple[str, tuple[float, float, float, float], int]:
    x1, y1, x2, y2 = (_number(item, f"bndbox/{key}", path) for key in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (item.findtext("difficult") or "0").strip()
    if difficult not in ("0", "1"):
        msg = f"{path}: <difficult>: expected 0 or 1, found {difficult[:40]!r}"
        raise DataError(msg)
    return _text(item, "name", path), (x1, y1, x2 - x1, y2 - y1), int(difficult)


def voc_file(path: Path) -> tuple[tuple[float, float], list[tuple[str, tuple[float, float, float, float], int]]]:
    """One VOC file: the size of its image, and label, corners and `difficult` of each box.

    Raises:
        DataError: as `read_voc`.
    """
    root = _parse(path)
    size = (_number(root, "size/width", path), _number(root, "size/height", path))
    objects = [_object(item, path) for item in root.findall("object")]
    return size, [(name, (x, y, x + w, y + h), crowd) for name, (x, y, w, h), crowd in objects]


def voc_xml(image: Image, boxes: list[tuple[str, Box]]) -> bytes:
    """One VOC file; `boxes` are (class name, box) pairs."""
    root = ET.Element("annotation")
    ET.SubElement(root, "filename").text = image.file_name
    size = ET.SubElement(root, "size")
    for key, value in (("width", image.width), ("height", image.height), ("depth", 3)):
        ET.SubElement(size, key).text = str(value)
    for name, box in boxes:
        item = ET.SubElement(root, "object")
        ET.SubElement(item, "name").text = name
        ET.SubElement(item, "difficult").text = str(box.iscrowd)
        bndbox = ET.SubElement(item, "bndbox")
        x, y, w, h = box.bbox
        for key, edge in (("xmin", x), ("ymin", y), ("xmax", x + w), ("ymax", y + h)):
            ET.SubElement(bndbox, key).text = f"{edge:.10g}"
    ET.indent(root)
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data
