"""COCO instance files. They are decoded fast into typed records; only a file that does not fit is looked at slowly."""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alloop.data.formats.coco_classes import CocoCategory, used_categories
from alloop.data.formats.coco_mending import mended, refuse_repeated_keys, without_byte_order_mark
from alloop.data.formats.coco_rotation import upright_boxes
from alloop.data.formats.format import NO_HINTS, Format, Hints, folder_of_file
from alloop.data.image_index import match_names
from alloop.data.notes import Notes
from alloop.data.records import Box, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, Submissions, size_problem
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh
from alloop.values import ImageId, ImageRecord


class _File(msgspec.Struct):
    """A file whose annotations are separate texts that are not decoded yet."""

    images: list[ImageRecord]
    categories: list[CocoCategory]
    annotations: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    unlabeled: list[ImageId] = []


class _FieldsFile(msgspec.Struct):
    """A file of which only the images are read, with all their fields."""

    images: list[dict[str, Any]]


_FIELDS = msgspec.json.Decoder(_FieldsFile)
_FILE = msgspec.json.Decoder(_File)
_BOX = msgspec.json.Decoder(Box)


def read_coco(path: Path, hints: Hints = NO_HINTS) -> Records:
    """Read a COCO JSON file, plain or gzipped.

    A file without the key `annotations` lists images that nobody has annotated. The key `unlabeled`, a list of image
    ids, is ours: it tells images that nobody has finished from images without an object.

    Raises:
        DataError: unreadable, not JSON, repeated keys, or records of the wrong shape, each named.
    """
    notes = Notes()
    data = without_byte_order_mark(read_bytes(path), path, notes)
    try:
        tree = _decoded(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        data = mended(path, data, error, hints, notes)
        tree = _decoded(data)
    if hints.images is not None and any(image.width < 1 or image.height < 1 for image in tree.images):
        data = mended(path, data, None, hints, notes)
        tree = _decoded(data)
    texts = [] if isinstance(tree.annotations, msgspec.UnsetType) else tree.annotations
    refuse_repeated_keys(path, data, len(tree.images), len(texts))
    unlabeled = frozenset(tree.unlabeled)
    if isinstance(tree.annotations, msgspec.UnsetType):
        notes.add("no key 'annotations': no image is labeled", str(path))
        unlabeled = frozenset(image.image_id for image in tree.images)
    boxes = _Boxes(texts, upright_boxes(path, data, texts, notes))
    categories = used_categories(tree.categories, boxes, notes)
    groups = _field_of_images(data, hints.group_field)
    return Records(tree.images, categories, boxes, unlabeled, notes=notes.listed(), groups=groups)


def _field_of_images(data: bytes, field: str) -> dict[ImageId, str]:
    """Return the value of a field of each image that has it; a text that holds no such key is not decoded again."""
    if field.isascii() and f'"{field}"'.encode() not in data:
        return {}
    images = _FIELDS.decode(data).images
    values = {image["id"]: image[field] for image in images if isinstance(image.get(field), str | int)}
    return {ImageId(image_id): str(value) for image_id, value in values.items()}


def _decoded(data: bytes) -> _File:
    tree = _FILE.decode(data)
    for text in tree.annotations or ():
        _BOX.decode(text)
    return tree


class _Boxes(Sequence[Box]):
    """The annotations of a file, decoded from their texts on every pass: a million objects would fill the memory.

    `upright` holds the boxes, by row, that differ from their text because they are turned.
    """

    def __init__(self, texts: list[msgspec.Raw], upright: Mapping[int, Xywh]) -> None:
        self._texts, self._upright = texts, upright

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        return self._changed(range(len(self))[row], _BOX.decode(self._texts[row]))

    def __iter__(self) -> Iterator[Box]:
        boxes = map(_BOX.decode, self._texts)
        return map(self._changed, range(len(self)), boxes) if self._upright else boxes

    def __len__(self) -> int:
        return len(self._texts)

    def _changed(self, row: int, box: Box) -> Box:
        if row in self._upright:
            x, y, width, height = self._upright[row]
            box.bbox = (float(x), float(y), float(width), float(height))
        return box


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file, unpacked if it is gzipped.

    Raises:
        DataError: it cannot be read or unpacked.
    """
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        msg = f"{path}: expected a COCO JSON file, but it cannot be read ({error})"
        raise DataError(msg) from error


def write_coco(records: Records) -> bytes:
    """Return the bytes of a COCO JSON file; segmentations keep their text."""
    tree: dict[str, object] = {
        "images": [_image_tree(image, records.groups) for image in records.images],
        "annotations": [_box_tree(box) for box in records.annotations],
        "categories": records.categories,
    }
    if records.unlabeled:
        tree["unlabeled"] = sorted(records.unlabeled)
    return msgspec.json.encode(tree)


def _image_tree(image: ImageRecord, groups: Mapping[ImageId, str]) -> object:
    group = groups.get(image.image_id)
    return image if group is None else msgspec.to_builtins(image) | {"group": group}


def _box_tree(box: Box) -> dict[str, Any]:
    tree: dict[str, Any] = {
        "id": box.id,
        "image_id": box.image_id,
        "category_id": box.category_id,
        "bbox": box.bbox,
        "area": box.bbox[2] * box.bbox[3] if box.area is None else box.area,
        "iscrowd": box.iscrowd,
    }
    if box.ignore:
        tree["ignore"] = box.ignore
    if bytes(box.segmentation) != b"null":
        tree["segmentation"] = box.segmentation
    return tree


def submissions_of_records(records: Records, images: Sequence[ImageRecord], path: Path) -> Submissions:
    """Return one submission for each image of the pool that a file lists as labeled.

    Raises:
        DataError: a name may mean several images, or two names mean one.
    """
    boxes, names = records.boxes_by_image(), records.category_names()
    matches = match_names([listed.file_name for listed in records.images], images, str(path))
    submissions = {}
    for listed in records.images:
        if listed.file_name in matches.by_name and listed.image_id not in records.unlabeled:
            image = matches.by_name[listed.file_name]
            submission = _submission(boxes[listed.image_id], names, listed, image)
            submissions[image.image_id] = ImageSubmissions((submission,))
    return Submissions(submissions, matches.unknown, (*records.notes, *matches.notes))


def _submission(boxes: Sequence[Box], names: Mapping[int, str], listed: ImageRecord, image: ImageRecord) -> Submission:
    problem = size_problem((listed.width, listed.height), (image.width, image.height))
    if problem:
        return Submission(problem=problem)
    drawn = (
        DrawnBox(names.get(b.category_id, f"category {b.category_id}"), b.bbox, b.iscrowd, b.ignore) for b in boxes
    )
    return Submission(tuple(drawn))


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return {target: write_coco(records)}


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return {folder / "tasks.json": write_coco(records)}


def _submissions(path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]) -> Submissions:
    return submissions_of_records(read_coco(path), images, path)


COCO = Format(
    title="COCO JSON, plain or gzipped",
    how_to_answer="Write answers.json: COCO, with every finished image in its list of images, also the empty ones.",
    read=read_coco,
    files=_files,
    guess=lambda path: not path.is_dir() and path.suffix not in (".xml", ".zip", ".txt"),
    image_folder=folder_of_file,
    task_files=_task_files,
    submissions=_submissions,
    keeps_masks=True,
)
