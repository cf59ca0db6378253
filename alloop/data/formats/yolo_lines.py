"""The lines of YOLO label files: `class cx cy w h` in fractions of the image, a polygon, or a box with keypoints.

- `class x1 y1 x2 y2 x3 y3 ...` is a polygon; its box is its extent.
- Where `kpt_shape: [K, D]` of `data.yaml` declares keypoints, `class cx cy w h` is followed by K times D numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from alloop.data.notes import Notes
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh
from alloop.values import ImageRecord

LARGEST = 2.0  # no fraction of an image is larger, also where a box reaches over the edge


class LabelLine(NamedTuple):
    """One line of a label file: the class number, the box in pixels, and the polygon as the JSON of a COCO mask."""

    label: int
    bbox: Xywh
    polygon: bytes


@dataclass(frozen=True, slots=True)
class LineRules:
    """What is known of the lines of a data set.

    Attributes:
        keypoint_numbers: how many numbers of keypoints follow each box, 0 for none.
        notes: where notes go.
        is_ours: whether alloop wrote the folder: it keeps boxes as they were, also far outside of their image.
    """

    keypoint_numbers: int
    notes: Notes
    is_ours: bool = False


def label_lines(file: Path, image: ImageRecord, rules: LineRules) -> Iterator[LabelLine]:
    """Return the lines of a label file.

    Raises:
        DataError: a line that is none of the three forms, with file and line.
    """
    for number, line in enumerate(text_lines(file), start=1):
        if line.strip():
            yield _line(line, image, rules, f"{file}: line {number}")


def text_lines(file: Path) -> list[str]:
    """Return the lines of a file, blank ones, too; none where there is no file.

    Raises:
        DataError: it cannot be read.
    """
    if not file.is_file():
        return []
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{file}: expected a text file of YOLO, but it cannot be read ({error})"
        raise DataError(msg) from error


def _line(line: str, image: ImageRecord, rules: LineRules, where: str) -> LabelLine:
    label, numbers = _numbers(line, rules, where)
    is_pose = rules.keypoint_numbers and len(numbers) == 4 + rules.keypoint_numbers
    is_polygon = not rules.keypoint_numbers and len(numbers) >= 6 and len(numbers) % 2 == 0
    if len(numbers) != 4 and not is_pose and not is_polygon:
        raise DataError(f"{where}: {_expected(rules)}, found {line[:80]!r}")
    if is_polygon:
        return _polygon(label, numbers, image)
    if is_pose:
        rules.notes.add("keypoints after the box (kpt_shape); left out", where)
    return _centred_box(label, numbers[:4], image)


def _numbers(line: str, rules: LineRules, where: str) -> tuple[int, list[float]]:
    """Return the class number and the other numbers of a line, all finite and no pixels."""
    parts = line.split()
    try:
        label, numbers = float(parts[0]), [float(part) for part in parts[1:]]
    except ValueError:
        raise DataError(f"{where}: {_expected(rules)}, found {line[:80]!r}") from None
    if not all(abs(number) < float("inf") for number in (label, *numbers)):
        raise DataError(f"{where}: holds a number that is not finite: {line[:80]!r}")
    if not label.is_integer():
        raise DataError(f"{where}: expected a whole number for the class, found {parts[0]!r}")
    if "." in parts[0] or "e" in parts[0].lower():
        rules.notes.add("the class is a whole number with a point; taken as a whole number", where)
    geometry = numbers[:4] if rules.keypoint_numbers else numbers
    if not rules.is_ours and any(abs(number) > LARGEST for number in geometry):
        msg = (
            f"{where}: expected fractions of the image, found {line[:80]!r}: these look like pixels; "
            "divide x and width by the width of the image, y and height by its height"
        )
        raise DataError(msg)
    return int(label), numbers


def _expected(rules: LineRules) -> str:
    if rules.keypoint_numbers:
        return f"expected 'class cx cy width height' and, by kpt_shape, {rules.keypoint_numbers} numbers of keypoints"
    return "expected 'class cx cy width height' or a polygon"


def _polygon(label: int, fractions: Sequence[float], image: ImageRecord) -> LabelLine:
    xs, ys = [x * image.width for x in fractions[::2]], [y * image.height for y in fractions[1::2]]
    polygon = msgspec.json.encode([[side for point in zip(xs, ys, strict=True) for side in point]])
    return LabelLine(label, (min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)), polygon)


def _centred_box(label: int, fractions: Sequence[float], image: ImageRecord) -> LabelLine:
    cx, cy, w, h = fractions
    x, y = (cx - w / 2) * image.width, (cy - h / 2) * image.height
    return LabelLine(label, (x, y, w * image.width, h * image.height), b"null")
