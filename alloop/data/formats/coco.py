"""COCO instance files: read fast into typed records, told apart slowly only when something is wrong."""

import gzip
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alloop.data.records import Box, Category, Image, Records
from alloop.errors import DataError


class _File(msgspec.Struct):
    """A file whose annotations are told apart but not yet read."""

    images: list[Image]
    categories: list[Category]
    annotations: list[msgspec.Raw] = []


_FILE, _BOX = msgspec.json.Decoder(_File), msgspec.json.Decoder(Box)
_SHAPES: dict[str, type] = {"images": Image, "categories": Category, "annotations": Box}


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
    """The annotations of a file, read from their text each time: a million objects would fill the memory."""

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
    """A file as it is, unpacked if it is gzipped."""
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
        msg = f"{path}: expected a COCO JSON file, but it cannot be read ({error})"
        raise DataError(msg) from error


def _refuse_repeated_keys(path: Path, data: bytes, records: Records) -> None:
    """A key given twice would silently hide boxes; counting keys is cheap, looking is not."""
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
    """Parse with the standard library, which can tell what msgspec only refuses."""

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
    """Name the first records that do not fit."""
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
    found = list(_misshapen(tree))
    listed = "\n  ".join(found[:10]) or str(error)
    return DataError(f"{path}: cannot be used until these records are mended:\n  {listed}")


def _misshapen(tree: dict[str, Any]) -> Iterable[str]:
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


def coco_tree(records: Records) -> dict[str, Any]:
    """Records as a COCO tree ready for `msgspec.json.encode`; segmentations keep their bytes."""
    return {
        "images": records.images,
        "annotations": [_box_tree(box) for box in records.annotations],
        "categories": records.categories,
    }


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


def write_coco(records: Records) -> bytes:
    """COCO JSON bytes."""
    return msgspec.json.encode(coco_tree(records))
