"""YOLO folders: `labels/*.txt` beside `images/`, and `data.yaml` or `classes.txt` with the class names.

A line is `class cx cy w h` in fractions of the image, or `class x1 y1 x2 y2 ...`, a polygon whose box is its extent.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import yaml

from alloop.data.formats.format import NO_HINTS, Format, Hints
from alloop.data.formats.sidecar import NO_SIDECAR, read_sidecar, sidecar_file
from alloop.data.images import SUFFIXES, image_size
from alloop.data.notes import Notes
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, Submissions
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh
from alloop.values import ImageId, ImageRecord


class _Line(NamedTuple):
    """One line of a label file: the class number, the box in pixels, and the polygon as the JSON of a COCO mask."""

    label: int
    bbox: Xywh
    polygon: bytes


def read_yolo(path: Path, hints: Hints = NO_HINTS) -> Records:  # noqa: ARG001  its files say everything
    """Read a YOLO folder, or one split of it (`labels/train` with `images/train`).

    Sizes come from the sidecar, else from the image headers; names from the folder or the nearest one above.

    Raises:
        DataError: no class names, a label file without its image, or a line that is not a box.
    """
    folder, side = path, read_sidecar(path)
    label_folder, image_folder = yolo_roots(folder)
    categories = side.categories if side else _categories(folder)
    images = side.images if side else _images(image_folder)
    files = _label_files(images, label_folder, image_folder)
    unlabeled = set((side or NO_SIDECAR).unlabeled)
    notes = Notes()
    boxes: list[Box] = []
    for file, image in files.items():
        if not side and not file.is_file():
            notes.add("no label file; the image is not labeled", f"{image_folder / image.file_name}")
            unlabeled.add(image.image_id)
        if side and not file.is_file() and image.image_id not in unlabeled:
            msg = f"{folder}: image {image.image_id} is listed in alloop.json, but {file} is missing; restore it"
            raise DataError(msg)
        for position, line in enumerate(_lines(file, image)):
            if not 0 <= line.label < len(categories):
                named = f"{folder} names {len(categories)} classes"
                msg = f"{file}: line {position + 1}: class {line.label} has no name; {named}"
                raise DataError(msg)
            crowd = int((side or NO_SIDECAR).is_crowd(image.image_id, position))
            box = Box(len(boxes) + 1, image.image_id, categories[line.label].id, line.bbox, crowd)
            box.segmentation = msgspec.Raw(line.polygon)
            boxes.append(box)
    return Records(list(images), list(categories), boxes, frozenset(unlabeled), notes=notes.listed())


def yolo_roots(folder: Path) -> tuple[Path, Path]:
    """Return the folders of the label files and of the images."""
    if (folder / "labels").is_dir() or "labels" not in folder.parts:
        return folder / "labels", folder / "images"
    last = len(folder.parts) - 1 - folder.parts[::-1].index("labels")
    return folder, Path(*folder.parts[:last], "images", *folder.parts[last + 1 :])


def _label_files(images: Sequence[ImageRecord], label_folder: Path, image_folder: Path) -> dict[Path, ImageRecord]:
    """Return the image of each label file.

    Raises:
        DataError: two images that share a label file, or a label file that belongs to no image.
    """
    files = {label_folder / Path(image.file_name).with_suffix(".txt"): image for image in images}
    if len(files) < len(images):
        msg = f"{image_folder}: two images differ only in their suffix, so they share a label file; rename one"
        raise DataError(msg)
    for path in sorted(label_folder.rglob("*.txt")):
        if path not in files and path.name != "classes.txt":
            msg = f"{path}: labels an image that is not in {image_folder}; add the image or remove the file"
            raise DataError(msg)
    return files


def _lines(file: Path, image: ImageRecord) -> Iterator[_Line]:
    for number, line in enumerate(_text_lines(file), start=1):
        yield _line(line, image, f"{file}: line {number}")


def _text_lines(file: Path) -> list[str]:
    """Return the lines of a file that are not blank; none where there is no file."""
    if not file.is_file():
        return []
    try:
        return [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: expected a YOLO label file, but it cannot be read ({error})"
        raise DataError(msg) from error


def _line(line: str, image: ImageRecord, where: str) -> _Line:
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
    return _polygon(label, numbers, image) if is_polygon else _centred_box(label, numbers, image)


def _polygon(label: int, fractions: Sequence[float], image: ImageRecord) -> _Line:
    xs, ys = [x * image.width for x in fractions[::2]], [y * image.height for y in fractions[1::2]]
    polygon = msgspec.json.encode([[side for point in zip(xs, ys, strict=True) for side in point]])
    return _Line(label, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), polygon)


def _centred_box(label: int, fractions: Sequence[float], image: ImageRecord) -> _Line:
    cx, cy, w, h = fractions
    x, y = (cx - w / 2) * image.width, (cy - h / 2) * image.height
    return _Line(label, (x, y, w * image.width, h * image.height), b"null")


def _categories(folder: Path) -> list[Category]:
    """Read the names from `data.yaml` (a list, or a mapping by class) or `classes.txt`; ids are the class numbers."""
    for parent in (folder, *folder.parents[:3]):
        for name in ("data.yaml", "dataset.yaml"):
            if (parent / name).is_file():
                return [Category(number, text) for number, text in enumerate(_yaml_names(parent / name))]
        if (parent / "classes.txt").is_file():
            lines = _text_lines(parent / "classes.txt")
            return [Category(number, text.strip()) for number, text in enumerate(lines)]
    msg = f"{folder}: expected data.yaml with 'names' or classes.txt; a YOLO folder needs the class names"
    raise DataError(msg)


def _yaml_names(file: Path) -> list[str]:
    try:
        tree: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        names = tree["names"]
        return [str(names[number]) for number in range(len(names))]
    except (yaml.YAMLError, KeyError, TypeError, IndexError, ValueError, RecursionError) as error:
        msg = f"{file}: expected a key 'names' with one name per class, numbered from 0 ({error!r})"
        raise DataError(msg) from error


def _images(folder: Path) -> list[ImageRecord]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        msg = f"{folder}: expected the images that the labels belong to, found none"
        raise DataError(msg)
    names = [file.relative_to(folder).as_posix() for file in files]
    return [
        ImageRecord(ImageId(number), name, *image_size(file))
        for number, (file, name) in enumerate(zip(files, names, strict=True), start=1)
    ]


def _label_texts(records: Records, target: Path) -> dict[Path, bytes]:
    """Return `data.yaml` and one label file per image, also for empty images.

    Raises:
        DataError: two images whose names differ only in the suffix.
    """
    labels = {category.id: number for number, category in enumerate(records.categories)}
    boxes = records.boxes_by_image()
    files = {target / "data.yaml": _data_yaml(records.categories)}
    for image in records.images:
        name = f"labels/{Path(image.file_name).with_suffix('.txt').as_posix()}"
        if target / name in files:
            msg = f"image {image.image_id}: {name} is taken; YOLO needs names that differ before the suffix"
            raise DataError(msg)
        if image.image_id in records.unlabeled:
            continue
        lines = (_label_line(labels[box.category_id], box.bbox, image) for box in boxes[image.image_id])
        files[target / name] = "".join(f"{line}\n" for line in lines).encode()
    return files


def _label_line(label: int, bbox: Xywh, image: ImageRecord) -> str:
    x, y, w, h = bbox
    numbers = ((x + w / 2) / image.width, (y + h / 2) / image.height, w / image.width, h / image.height)
    return " ".join([str(label), *(f"{number:.12g}" for number in numbers)])


def _data_yaml(categories: Sequence[Category]) -> bytes:
    names = {number: category.name for number, category in enumerate(categories)}
    tree = {"path": ".", "train": "images", "val": "images", "names": names}
    return yaml.safe_dump(tree, allow_unicode=True).encode()


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return _label_texts(records, target) | sidecar_file(records, target)


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _label_texts(records, folder / "tasks")


def _submissions(path: Path, images: Sequence[ImageRecord], class_names: Sequence[str]) -> Submissions:
    """Return a submission for each image of the pool whose label file is there."""
    files = {image: path / "labels" / Path(image.file_name).with_suffix(".txt") for image in images}
    return Submissions(
        {
            image.image_id: ImageSubmissions((_submission(file, image, class_names),))
            for image, file in files.items()
            if file.is_file()
        }
    )


def _submission(file: Path, image: ImageRecord, class_names: Sequence[str]) -> Submission:
    names = dict(enumerate(class_names))
    lines = _lines(file, image)
    return Submission(tuple(DrawnBox(names.get(line.label, f"class {line.label}"), line.bbox) for line in lines))


YOLO = Format(
    title="YOLO, a folder or one split of it",
    how_to_answer="Write answers/labels/NAME.txt for every finished image, an empty file for an empty one.",
    read=read_yolo,
    files=_files,
    guess=lambda path: path.is_dir() and ((path / "labels").is_dir() or "labels" in path.parts),
    image_folder=lambda path: yolo_roots(path)[1],
    task_files=_task_files,
    submissions=_submissions,
)
