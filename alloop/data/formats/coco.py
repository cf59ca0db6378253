"""COCO instance files. They are decoded fast into typed records; only a file that does not fit is looked at slowly."""

import gzip
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alloop.data.formats.format import Format, every_image, folder_of_file
from alloop.data.formats.names import match_names
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import DrawnBox, ImageSubmissions, Submission, size_problem
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord


class _File(msgspec.Struct):
    """A file whose annotations are separate texts that are not decoded yet."""

    images: list[ImageRecord]
    categories: list[Category]
    annotations: list[msgspec.Raw] = []


_FILE = msgspec.json.Decoder(_File)
_BOX = msgspec.json.Decoder(Box)
LISTED = 10  # misshapen records that an error message lists
_SHAPES: dict[str, type] = {"images": ImageRecord, "categories": Category, "annotations": Box}


def read_coco(path: Path) -> Records:
    """Read a COCO JSON file, plain or gzipped.

    Raises:
        DataError: unreadable, not JSON, repeated keys, or records of the wrong shape, each named.
    """
    data = read_bytes(path)
    try:
        tree = _FILE.decode(data)
        for text in tree.annotations:
            _BOX.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _explain(path, data, error) from error
    records = Records(tree.images, tree.categories, _Boxes(tree.annotations))
    _refuse_repeated_keys(path, data, records)
    return records


class _Boxes(Sequence[Box]):
    """The annotations of a file, decoded from their texts on every pass: a million objects would fill the memory."""

    def __init__(self, texts: list[msgspec.Raw]) -> None:
        self._texts = texts

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return _Boxes(self._texts[row])
        return _BOX.decode(self._texts[row])

    def __iter__(self) -> Iterator[Box]:
        return map(_BOX.decode, self._texts)

    def __len__(self) -> int:
        return len(self._texts)


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


def _refuse_repeated_keys(path: Path, data: bytes, records: Records) -> None:
    """Raise DataError when a key stands twice in an object: the decoder would silently drop boxes.

    Counting the keys is cheap; only a file with too many of them is parsed again.
    """
    expected = {
        b'"annotations"': 1,
        b'"images"': 1,
        b'"categories"': 1,
        b'"bbox"': len(records.annotations),
        b'"image_id"': len(records.annotations),
        b'"file_name"': len(records.images),
    }
    if any(data.count(key) > count for key, count in expected.items()):
        _parse_slowly(path, data)


def _parse_slowly(path: Path, data: bytes) -> Any:
    """Parse with the standard library, whose hooks can name what msgspec only refuses.

    Raises:
        DataError: not JSON, a number such as NaN, or a key that stands twice in one object.
    """

    def no_constant(text: str) -> Any:
        msg = f"{path}: holds the number {text}, which is not JSON; find the record that was divided by zero"
        raise DataError(msg)

    def no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            repeated = next(key for key in keys if keys.count(key) > 1)
            some_id = dict(pairs).get("id")
            msg = f"{path}: key {repeated!r} stands twice in one object (id {some_id}); keep one of them"
            raise DataError(msg)
        return dict(pairs)

    try:
        return json.loads(data, parse_constant=no_constant, object_pairs_hook=no_repeats)
    except (ValueError, RecursionError) as error:
        msg = f"{path}: expected a COCO JSON file, found text that is not JSON ({error})"
        raise DataError(msg) from error


def _explain(path: Path, data: bytes, error: Exception) -> DataError:
    """Return an error that names the first records that do not fit."""
    try:
        tree = _parse_slowly(path, data)
    except DataError as better:
        return better
    if not isinstance(tree, dict):
        return DataError(
            f"{path}: expected an object with images, annotations, categories, found a {type(tree).__name__}"
        )
    for key in ("images", "categories"):
        if key not in tree:
            return DataError(
                f"{path}: key {key!r} is missing; a COCO instance file has images, annotations, categories"
            )
    listed = "\n  ".join(itertools.islice(_misshapen(tree), LISTED)) or str(error)
    return DataError(f"{path}: cannot be used until these records are mended:\n  {listed}")


def _misshapen(tree: dict[str, Any]) -> Iterator[str]:
    """Describe each record that does not fit its type."""
    for key, shape in _SHAPES.items():
        rows = tree.get(key, [])
        if not isinstance(rows, list):
            yield f"{key}: expected a list, found {type(rows).__name__}"
            continue
        for position, row in enumerate(rows):
            try:
                msgspec.json.decode(msgspec.json.encode(row), type=shape)
            except (msgspec.MsgspecError, OverflowError, RecursionError, TypeError, ValueError) as error:
                name = row.get("id", "missing") if isinstance(row, dict) else "missing"
                yield f"{key}[{position}], id {name}: {error}"


def write_coco(records: Records) -> bytes:
    """Return the bytes of a COCO JSON file; segmentations keep their text."""
    return msgspec.json.encode(
        {
            "images": records.images,
            "annotations": [_box_tree(box) for box in records.annotations],
            "categories": records.categories,
        }
    )


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


def submissions_of_records(records: Records, images: Sequence[ImageRecord]) -> dict[ImageId, ImageSubmissions]:
    """Return one submission for each image of the pool that a file lists."""
    boxes, names = records.boxes_by_image(), records.category_names()
    matches = match_names([listed.file_name for listed in records.images], images)
    submissions = {}
    for listed in records.images:
        if listed.file_name in matches:
            image = matches[listed.file_name]
            submission = _submission(boxes[listed.image_id], names, listed, image)
            submissions[image.image_id] = ImageSubmissions((submission,))
    return submissions


def _submission(boxes: Sequence[Box], names: Mapping[int, str], listed: ImageRecord, image: ImageRecord) -> Submission:
    problem = size_problem((listed.width, listed.height), (image.width, image.height))
    if problem:
        return Submission(problem=problem)
    drawn = (DrawnBox(names.get(b.category_id, f"category {b.category_id}"), b.bbox, b.iscrowd) for b in boxes)
    return Submission(tuple(drawn))


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    return {target: write_coco(records)}


def _task_files(folder: Path, records: Records, _scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return {folder / "tasks.json": write_coco(records)}


def _submissions(
    path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]
) -> dict[ImageId, ImageSubmissions]:
    return submissions_of_records(read_coco(path), images)


COCO = Format(
    title="COCO JSON, plain or gzipped",
    how_to_answer="Write answers.json: COCO, with every finished image in its list of images, also the empty ones.",
    read=read_coco,
    files=_files,
    guess=lambda path: not path.is_dir() and path.suffix not in (".xml", ".zip", ".txt"),
    image_folder=folder_of_file,
    finished=every_image,
    task_files=_task_files,
    submissions=_submissions,
    keeps_masks=True,
)
