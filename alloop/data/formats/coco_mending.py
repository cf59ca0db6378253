"""COCO files that do not fit: what can be read without doubt is mended and noted, everything else is explained.

The file is parsed by the standard library, which is slow and can name what a typed decoder only refuses.
"""

import codecs
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from alloop.data.formats.coco_classes import CocoCategory
from alloop.data.formats.format import Hints
from alloop.data.notes import Notes
from alloop.data.records import Box
from alloop.errors import DataError
from alloop.values import ImageRecord

LISTED = 10  # misshapen records that an error message lists
_SHAPES: dict[str, type] = {"images": ImageRecord, "categories": CocoCategory, "annotations": Box}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))

Tree = dict[str, Any]


def without_byte_order_mark(data: bytes, path: Path, notes: Notes) -> bytes:
    """Return the text of a file as UTF-8 without a byte order mark; a mark is noted.

    Raises:
        DataError: a mark of UTF-16 before something else.
    """
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        return data
    notes.add(f"begins with a byte order mark; read as {encoding.removesuffix('-sig').upper()}", str(path))
    try:
        return data.decode(encoding).encode()
    except UnicodeDecodeError as error:
        msg = f"{path}: begins with a byte order mark, but it is no {encoding} ({error}); save it as UTF-8"
        raise DataError(msg) from error


def refuse_repeated_keys(path: Path, data: bytes, images: int, boxes: int) -> None:
    """Raise DataError when a key stands twice in an object: the decoder would silently drop boxes.

    Counting the keys is cheap; only a file with too many of them is parsed again.
    """
    single = (b'"annotations"', b'"images"', b'"categories"', b'"unlabeled"')
    expected = dict.fromkeys(single, 1) | {b'"bbox"': boxes, b'"image_id"': boxes, b'"file_name"': images}
    if any(data.count(key) > count for key, count in expected.items()):
        _parsed(path, data)


def mended(path: Path, data: bytes, error: Exception | None, hints: Hints, notes: Notes) -> bytes:
    """Return the file with records that fit, as JSON.

    Mended are: ids that are texts or whole numbers with a point; `iscrowd`, `area`, `segmentation`, `ignore` and the
    ids of annotations that are null, false or missing; sizes of images that are missing, where `hints` has the images;
    names of categories that are numbers. Each rule is counted in `notes`.

    Args:
        path: the file, for messages.
        data: its bytes.
        error: the message of the typed decoder, if it refused the file.
        hints: the images, where they are known.
        notes: grows.

    Raises:
        DataError: the first records that do not fit even so, each with its reason.
    """
    tree = _parsed(path, data)
    _refuse_other_files(path, tree)
    images, categories, boxes = (_rows(tree, key) for key in _SHAPES)
    _mend_ids(path, images, categories, boxes, tree, notes)
    for row in images:
        _mend_image(row, hints, path, notes)
    for row in categories:
        _mend_category(row, notes)
    for row in boxes:
        _mend_box(row, notes)
    listed = "\n  ".join(itertools.islice(_misshapen(tree), LISTED))
    if listed:
        raise DataError(f"{path}: cannot be used until these records are mended:\n  {listed}") from error
    return msgspec.json.encode({key: tree[key] for key in (*_SHAPES, "unlabeled") if key in tree})


def _parsed(path: Path, data: bytes) -> Any:
    """Parse a file.

    Raises:
        DataError: not JSON, a number such as NaN, or a key that stands twice in one object.
    """

    def no_constant(text: str) -> Any:
        msg = f"{path}: holds the number {text}, which is not JSON; find the record that was divided by zero"
        raise DataError(msg)

    def no_repeats(pairs: list[tuple[str, Any]]) -> Tree:
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


def _refuse_other_files(path: Path, tree: Any) -> None:
    """Raise DataError where a file is no COCO instance file at all."""
    if isinstance(tree, list) and tree and isinstance(tree[0], dict) and {"image_id", "bbox"} <= tree[0].keys():
        msg = f"{path}: is a list of detections (results), not annotations; give the file with images and categories"
        raise DataError(msg)
    if not isinstance(tree, dict):
        found = type(tree).__name__
        raise DataError(f"{path}: expected an object with images, annotations, categories, found a {found}")
    for key in ("images", "categories"):
        if key not in tree:
            msg = f"{path}: key {key!r} is missing; a COCO instance file has images, annotations, categories"
            raise DataError(msg)


def _rows(tree: Tree, key: str) -> list[Tree]:
    rows = tree.get(key, [])
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _mend_ids(
    path: Path, images: list[Tree], categories: list[Tree], boxes: list[Tree], tree: Tree, notes: Notes
) -> None:
    """Bring all ids to whole numbers, and the references to them."""
    ids = {
        name: _numbers([row["id"] for row in rows if not _is_nothing(row.get("id"))], name, notes)
        for name, rows in (("images", images), ("categories", categories), ("annotations", boxes))
    }
    for rows, place, key, name in (
        (images, "images", "id", "images"),
        (categories, "categories", "id", "categories"),
        (boxes, "annotations", "id", "annotations"),
        (boxes, "annotations", "image_id", "images"),
        (boxes, "annotations", "category_id", "categories"),
    ):
        for row in rows:
            if not _is_nothing(row.get(key)):
                where = f"{path}: {place}: id {row.get('id')}: {key}"
                row[key] = _number(row[key], ids[name], where, notes)
    if isinstance(tree.get("unlabeled"), list):
        where = f"{path}: unlabeled"
        tree["unlabeled"] = [_number(value, ids["images"], where, notes) for value in tree["unlabeled"]]
    free = itertools.count(max((row["id"] for row in boxes if isinstance(row.get("id"), int)), default=0) + 1)
    for row in boxes:
        if _is_nothing(row.get("id")):
            row["id"] = next(free)
            notes.add("id is missing; numbered", f"annotations: id {row['id']}")


def _numbers(values: Sequence[Any], name: str, notes: Notes) -> Mapping[str, int]:
    """Return the whole number of each id by its text; empty where no id is a text.

    Digits are taken as they are. Where they are ambiguous (`7` and `07`), or where an id has other characters, all ids
    are numbered in the order of the file.
    """
    texts = list(dict.fromkeys(_text(value) for value in values))
    first = next((value for value in values if isinstance(value, str)), None)
    if first is None:
        return {}
    where, count = f"{name}: id {first!r}", sum(isinstance(value, str) for value in values)
    numbers = {text: int(text) for text in texts if _is_whole(text)}
    if len(numbers) == len(texts) == len(set(numbers.values())):
        notes.add("id is a text of digits; taken as a number", where, count)
        return numbers
    notes.add("id is a text; all are numbered in the order of the file", where, count)
    return {text: number for number, text in enumerate(texts, start=1)}


def _number(value: Any, ids: Mapping[str, int], where: str, notes: Notes) -> Any:
    """Return the number of an id; what cannot be one is left to the check of shapes.

    Raises:
        DataError: the file's ids are texts, and this is none of them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return value
    text = _text(value)
    if ids and text not in ids:  # a number would be taken for one of those that were just given
        raise DataError(f"{where} {value!r} is not among the ids that the file lists")
    if ids:
        return ids[text]
    if isinstance(value, float) and _is_whole(text):
        notes.add("a whole number with a point; taken as a whole number", where)
        return int(text)
    if isinstance(value, str) and _is_whole(text):
        notes.add("a text of digits; taken as a number", where)
        return int(text)
    return value


def _text(value: Any) -> str:
    """Return an id as a text; `5.0` and `5` are the same."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def _is_nothing(value: Any) -> bool:
    """Return whether a value is what exporters write where there is none; 0 is a value."""
    return value is None or value is False or (isinstance(value, str) and not value.strip())


def _mend_image(row: Tree, hints: Hints, path: Path, notes: Notes) -> None:
    name, where = row.get("file_name"), f"images: id {row.get('id')}"
    sizes = [row.get(key) for key in ("width", "height")]
    if isinstance(name, str) and all(_is_nothing(size) or size in (0, -1) for size in sizes):
        row["width"], row["height"] = hints.size_of(name, f"{path}: {where}")
        notes.add("width and height are missing; taken from the image", where)
    for key in ("width", "height"):
        _mend_whole(row, key, where, notes)


def _mend_category(row: Tree, notes: Notes) -> None:
    name = row.get("name")
    if isinstance(name, int | float) and not isinstance(name, bool):
        notes.add("name is a number; taken as text", f"categories: id {row.get('id')}")
        row["name"] = str(name)


def _mend_box(row: Tree, notes: Notes) -> None:
    where = f"annotations: id {row.get('id')}"
    for key, default in (("iscrowd", 0), ("ignore", 0), ("area", None), ("segmentation", None)):
        value = row.get(key, default)
        if _is_nothing(value) and value is not default:
            row[key] = default
            notes.add(f"{key} is null, false or empty; taken as {'0' if default == 0 else 'missing'}", where)
        elif value is True and default == 0:
            row[key] = 1
            notes.add(f"{key} is true; taken as 1", where)
    for key in ("iscrowd", "ignore"):
        _mend_whole(row, key, where, notes)


def _mend_whole(row: Tree, key: str, where: str, notes: Notes) -> None:
    value = row.get(key)
    if isinstance(value, float) and value.is_integer():
        row[key] = int(value)
        notes.add(f"{key} is a whole number with a point; taken as a whole number", where)


def _misshapen(tree: Tree) -> Iterator[str]:
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
