"""YOLO folders: `labels/*.txt` beside `images/`, and `data.yaml` or `classes.txt` with the class names.

A line is `class cx cy w h` in fractions of the image, or `class x1 y1 x2 y2 ...`, a polygon whose box is its extent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

from alloop.data.formats.sidecar import Sidecar, read_sidecar
from alloop.data.images import image_size
from alloop.data.records import Box, Category, Image, Records
from alloop.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"}


def read_yolo(folder: Path) -> Records:
    """Read a YOLO folder, or one split of it (`labels/train` with `images/train`).

    Sizes come from the sidecar, else from the image headers; names from the folder or the nearest one above.

    Raises:
        DataError: no class names, a label file without its image, or a line that is not a box.
    """
    side = read_sidecar(folder)
    labels, pictures = yolo_roots(folder)
    categories = side.categories if side else _categories(folder)
    images = side.images if side else _images(pictures)
    crowd = {image_id: set(numbers) for image_id, numbers in side.crowd.items()} if side else {}
    boxes: list[Box] = []
    expected = {labels / Path(image.file_name).with_suffix(".txt"): image for image in images}
    if len(expected) < len(images):
        msg = f"{pictures}: two images differ only in their suffix, so they share a label file; rename one"
        raise DataError(msg)
    for path in sorted(labels.rglob("*.txt")):
        if path not in expected and path.name != "classes.txt":
            msg = f"{path}: labels an image that is not in {pictures}; add the image or remove the file"
            raise DataError(msg)
    for path, image in expected.items():
        if side and not path.is_file():
            msg = f"{folder}: image {image.id} is listed in alloop.json, but {path} is missing; restore it"
            raise DataError(msg)
        flags = crowd.get(image.id, set())
        for number, line in enumerate(_lines(path)):
            label, bbox, polygon = _line(line, image, f"{path}: line {number + 1}")
            if not 0 <= label < len(categories):
                msg = f"{path}: line {number + 1}: class {label} has no name; {folder} names {len(categories)} classes"
                raise DataError(msg)
            box = Box(len(boxes) + 1, image.id, categories[label].id, bbox, int(number in flags))
            box.segmentation = msgspec.Raw(polygon)
            boxes.append(box)
    return Records(list(images), list(categories), boxes)


def yolo_roots(folder: Path) -> tuple[Path, Path]:
    """The folders of the label files and of the images."""
    if (folder / "labels").is_dir() or "labels" not in folder.parts:
        return folder / "labels", folder / "images"
    last = len(folder.parts) - 1 - folder.parts[::-1].index("labels")
    return folder, Path(*folder.parts[:last], "images", *folder.parts[last + 1 :])


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: expected a YOLO label file, but it cannot be read ({error})"
        raise DataError(msg) from error


def _line(line: str, image: Image, where: str) -> tuple[int, tuple[float, float, float, float], bytes]:
    """(class, bbox in pixels, segmentation as JSON)."""
    parts = line.split()
    try:
        label, numbers = int(parts[0]), [float(part) for part in parts[1:]]
    except ValueError:
        label, numbers = -1, []
    is_polygon = len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(numbers) != 4 and not is_polygon:
        msg = f"{where}: expected 'class cx cy width height' or a polygon, found {line[:80]!r}"
        raise DataError(msg)
    if not all(abs(number) < float("inf") for number in numbers):
        msg = f"{where}: holds a number that is not finite: {line[:80]!r}"
        raise DataError(msg)
    if is_polygon:
        xs, ys = [x * image.width for x in numbers[::2]], [y * image.height for y in numbers[1::2]]
        polygon = msgspec.json.encode([[side for point in zip(xs, ys, strict=True) for side in point]])
        return label, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), polygon
    cx, cy, w, h = numbers
    x, y = (cx - w / 2) * image.width, (cy - h / 2) * image.height
    return label, (x, y, w * image.width, h * image.height), b"null"


def yolo_boxes(
    path: Path, image: Image, class_names: Sequence[str]
) -> list[tuple[str, tuple[float, float, float, float], int]]:
    """One label file: the name and the corners in pixels of each box; no crowds.

    Raises:
        DataError: as `read_yolo`.
    """
    found = []
    for number, line in enumerate(_lines(path), start=1):
        label, (x, y, w, h), _ = _line(line, image, f"{path}: line {number}")
        name = class_names[label] if 0 <= label < len(class_names) else f"class {label}"
        found.append((name, (x, y, x + w, y + h), 0))
    return found


def _categories(folder: Path) -> list[Category]:
    """Names from `data.yaml` (a list, or a mapping by class) or `classes.txt`; ids are the class numbers."""
    for place in (folder, *folder.parents[:3]):
        for name in ("data.yaml", "dataset.yaml"):
            if (place / name).is_file():
                return [Category(i, text) for i, text in enumerate(_yaml_names(place / name))]
        if (place / "classes.txt").is_file():
            return [Category(i, text.strip()) for i, text in enumerate(_lines(place / "classes.txt"))]
    msg = f"{folder}: expected data.yaml with 'names' or classes.txt; a YOLO folder needs the class names"
    raise DataError(msg)


def _yaml_names(path: Path) -> list[str]:
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = tree["names"]
        return [str(names[i]) for i in range(len(names))]
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, RecursionError) as error:
        msg = f"{path}: expected a key 'names' with one name a class, numbered from 0 ({error!r})"
        raise DataError(msg) from error


def _images(root: Path) -> list[Image]:
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        msg = f"{root}: expected the images that the labels belong to, found none"
        raise DataError(msg)
    found = []
    for image_id, path in enumerate(paths, start=1):
        width, height = image_size(path)
        found.append(Image(image_id, path.relative_to(root).as_posix(), width, height))
    return found


def yolo_files(records: Records) -> dict[str, bytes]:
    """The text files of a YOLO folder, by relative path, one label file an image, empty ones too."""
    labels = {category.id: number for number, category in enumerate(records.categories)}
    by_image: dict[int, list[Box]] = {image.id: [] for image in records.images}
    for box in records.annotations:
        by_image[box.image_id].append(box)
    files = {"data.yaml": _data_yaml(records.categories)}
    for image in records.images:
        lines = []
        for box in by_image[image.id]:
            x, y, w, h = box.bbox
            numbers = ((x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height)
            lines.append(" ".join([str(labels[box.category_id]), *(f"{number:.12g}" for number in numbers)]))
        path = f"labels/{Path(image.file_name).with_suffix('.txt').as_posix()}"
        if path in files:
            msg = f"image {image.id}: {path} is taken; YOLO needs names that differ before the suffix"
            raise DataError(msg)
        files[path] = "".join(f"{line}\n" for line in lines).encode()
    return files


def _data_yaml(categories: list[Category]) -> bytes:
    names = {number: category.name for number, category in enumerate(categories)}
    return yaml.safe_dump(
        {"path": ".", "train": "images", "val": "images", "names": names}, allow_unicode=True
    ).encode()


def sidecar_of(records: Records) -> Sidecar:
    """What YOLO and VOC cannot hold."""
    numbers: dict[int, int] = {}
    crowd: dict[int, list[int]] = {}
    for box in records.annotations:
        number = numbers.get(box.image_id, 0)
        numbers[box.image_id] = number + 1
        if box.iscrowd:
            crowd.setdefault(box.image_id, []).append(number)
    return Sidecar(records.images, records.categories, crowd)
