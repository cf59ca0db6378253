"""Hugging Face imagefolder: the images beside `metadata.jsonl`, which has one row of JSON for each image.

    {"file_name": "day/a.jpg", "image_id": 7, "width": 120, "height": 90,
     "objects": {"bbox": [[x, y, width, height]], "categories": [0], "iscrowd": [0], "ignore": [0]}}

Boxes are in pixels. Categories are class numbers, whose names stand in `classes.txt`, one on each line, or they are the
names themselves. A row without `objects` is an image that nobody has finished annotating.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from alloop.data.formats.carried_names import refuse_lost_names
from alloop.data.formats.classes import ClassIds
from alloop.data.formats.coco import submissions_of_records
from alloop.data.formats.format import NO_HINTS, Format, Hints, folder_of_file
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, refuse_lost_images, sidecar_file
from alloop.data.image_index import index_of_records
from alloop.data.notes import Notes
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import Submissions
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh
from alloop.values import ImageId, ImageRecord

NAME = "metadata.jsonl"
CLASSES = "classes.txt"


class _Objects(msgspec.Struct):
    bbox: list[tuple[float, float, float, float]]
    categories: list[int | str]
    iscrowd: list[int] | None = None
    ignore: list[int] | None = None


class _Row(msgspec.Struct):
    file_name: str
    image_id: int | None = None
    width: int | None = None
    height: int | None = None
    objects: _Objects | None = None


_ROW = msgspec.json.Decoder(_Row)


def read_hf(path: Path, hints: Hints = NO_HINTS) -> Records:
    """Read `metadata.jsonl`, or the folder that holds it.

    Ids come from `image_id`, else from the sidecar, else the next free numbers are taken. Sizes that a row lacks are
    those of the images. The names of class numbers are those of the sidecar, of `classes.txt` or of `hints`, in that
    order.

    Raises:
        DataError: a row that is not as the module says, named with its line; class numbers without names.
    """
    file = path / NAME if path.is_dir() else path
    rows, notes = list(_rows(file)), Notes()
    side = read_sidecar(file.parent) or NO_SIDECAR
    classes = ClassIds(_categories(file, hints, side), first=0)
    listed = len(classes.categories)
    for name in sorted({name for _, row in rows for name in _of_row(row).categories if isinstance(name, str)}):
        classes.id_of(name)
    images: list[ImageRecord] = []
    boxes: list[Box] = []
    unlabeled: set[ImageId] = set()
    for image_id, (where, row) in zip(_ids(rows, side), rows, strict=True):
        images.append(ImageRecord(image_id, row.file_name, *_size(row, where, hints, notes)))
        if row.objects is None:
            _refuse_lost_objects(images[-1], side, where)
            unlabeled.add(image_id)
            continue
        boxes += _boxes(row.objects, image_id, len(boxes) + 1, classes, listed, where)
    if unlabeled - set(side.unlabeled):
        notes.add("no 'objects'; the image is not labeled", str(file), len(unlabeled - set(side.unlabeled)))
    refuse_lost_images(file, side, images)
    return Records(
        images, classes.categories, boxes, frozenset(unlabeled), classes_are_seen=not listed, notes=notes.listed()
    )


def _rows(file: Path) -> Iterator[tuple[str, _Row]]:
    """Yield each row with its place, for messages; blank lines are passed over."""
    try:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except (OSError, ValueError) as error:
        msg = f"{file}: expected a {NAME} of Hugging Face, but it cannot be read ({error})"
        raise DataError(msg) from error
    for number, line in enumerate(lines, start=1):
        where = f"{file}: line {number}"
        try:
            row = _ROW.decode(line) if line.strip() else None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            msg = f"{where}: expected an object with 'file_name' and 'objects', found {line[:60]!r} ({error}); mend it"
            raise DataError(msg) from error
        if row is not None:
            yield where, row


def _refuse_lost_objects(image: ImageRecord, side: Sidecar, where: str) -> None:
    if image in side.images and image.image_id not in side.unlabeled:
        msg = f"{where}: image {image.image_id} is listed in alloop.json as labeled, but has no 'objects'; restore them"
        raise DataError(msg)


def _of_row(row: _Row) -> _Objects:
    return row.objects or _Objects([], [])


def _categories(file: Path, hints: Hints, side: Sidecar) -> Sequence[Category]:
    """Return the classes that are listed somewhere; empty where only the rows name them."""
    listed, names = file.with_name(CLASSES), hints.classes
    if side.categories:
        return side.categories
    if listed.is_file():
        try:
            names = tuple(listed.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n"))
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{listed}: expected the names of the classes, one on each line, but it cannot be read ({error})"
            raise DataError(msg) from error
    return [Category(number, name) for number, name in enumerate(names)]


def _ids(rows: Sequence[tuple[str, _Row]], side: Sidecar) -> Iterator[ImageId]:
    known = side.image_ids()
    given = [row.image_id if row.image_id is not None else known.get(row.file_name) for _, row in rows]
    free = max((number for number in given if number is not None), default=0)
    for number in given:
        free += number is None
        yield ImageId(free if number is None else number)


def _size(row: _Row, where: str, hints: Hints, notes: Notes) -> tuple[int, int]:
    if row.width and row.height:
        return row.width, row.height
    size = hints.size_of(row.file_name, where)
    notes.add("width or height is missing; taken from the image", where)
    return size


def _boxes(
    objects: _Objects, image_id: ImageId, first_id: int, classes: ClassIds, listed: int, where: str
) -> Iterator[Box]:
    count = len(objects.bbox)
    flags = [objects.iscrowd or [0] * count, objects.ignore or [0] * count]
    lengths = [count, len(objects.categories), *map(len, flags)]
    if len(set(lengths)) > 1:
        msg = (
            f"{where}: objects: expected one category and flag for each of {count} boxes, found {lengths[1:]}; mend it"
        )
        raise DataError(msg)
    for number, (bbox, category, crowd, ignore) in enumerate(
        zip(objects.bbox, objects.categories, *flags, strict=True)
    ):
        category_id = _category_id(category, classes, listed, where)
        yield Box(first_id + number, image_id, category_id, bbox, crowd, ignore=ignore)


def _category_id(category: int | str, classes: ClassIds, listed: int, where: str) -> int:
    if isinstance(category, str):
        return classes.id_of(category)
    if not 0 <= category < listed:
        msg = f"{where}: objects: class {category} has no name; {CLASSES} beside the file names {listed} classes"
        raise DataError(msg)
    return classes.categories[category].id


def _metadata(records: Records, target: Path) -> dict[Path, bytes]:
    """Return `metadata.jsonl` and `classes.txt`.

    Raises:
        DataError: a name that a line of text cannot carry.
    """
    refuse_lost_names(records, "Hugging Face")
    labels = {category.id: number for number, category in enumerate(records.categories)}
    boxes = records.boxes_by_image()
    rows = (
        _row(image, None if image.image_id in records.unlabeled else boxes[image.image_id], labels)
        for image in records.images
    )
    names = "".join(f"{category.name}\n" for category in records.categories)
    return {
        target / NAME: b"".join(msgspec.json.encode(row) + b"\n" for row in rows),
        target / CLASSES: names.encode(),
    }


def _row(image: ImageRecord, boxes: Sequence[Box] | None, labels: Mapping[int, int]) -> dict[str, object]:
    facts = {"file_name": image.file_name, "image_id": image.image_id, "width": image.width, "height": image.height}
    if boxes is None:
        return facts
    columns: dict[str, list[Xywh] | list[int]] = {
        "bbox": [box.bbox for box in boxes],
        "categories": [labels[box.category_id] for box in boxes],
        "iscrowd": [box.iscrowd for box in boxes],
        "ignore": [box.ignore for box in boxes],
    }
    return {**facts, "objects": columns}


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return _metadata(records, target) | sidecar_file(records, target)


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _metadata(records, folder / "tasks")


def _submissions(path: Path, images: Sequence[ImageRecord], class_names: Sequence[str]) -> Submissions:
    """Return a submission for each row with `objects`; sizes that a row lacks are those of the pool's image."""
    records = read_hf(path, Hints(index_of_records(images, str(path)), tuple(class_names)))
    return submissions_of_records(records, images, path)


HF = Format(
    title="Hugging Face imagefolder, the images beside metadata.jsonl",
    how_to_answer="Write answers/metadata.jsonl, a row for every finished image, with empty lists for an empty one.",
    read=read_hf,
    files=_files,
    guess=lambda path: path.suffix == ".jsonl" or (path / NAME).is_file(),
    image_folder=folder_of_file,
    task_files=_task_files,
    submissions=_submissions,
    images=".",
)
