"""The boxes of one annotation of Label Studio. An annotation's `result` is a list of regions and of answers.

A box is `x, y, width, height` in per cent of the image as displayed, `rotation` in degrees clockwise about the corner
`(x, y)`, in pixels. What is not a box is counted, and left out only where it says nothing about a place.
"""

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alloop.geometry.boxes import Corners, corners_from_xywh, extent_of_rotated, xywh_from_corners

UNUSABLE = (ValueError, TypeError, AttributeError, KeyError, OverflowError)  # raised by a result of another shape
FAR_OVER = 150  # per cent; a box that ends there is in another unit, one that ends at 105 reaches over the edge
SHOWN = 60  # characters of garbage that a message shows
MANY = 4  # boxes are in pixels, not in per cent, if at least one in four is far over 100 per cent
ROUNDING = 1e-6  # per cent
Size = tuple[int, int]  # (width, height) of an image in pixels as displayed
_LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
_BOXES = frozenset({"rectangle", "rectanglelabels"})
_POLYGONS = frozenset({"polygon", "polygonlabels"})
_ELLIPSES = frozenset({"ellipse", "ellipselabels"})
_POINTS = frozenset({"keypoint", "keypointlabels"})
_SHAPES = _BOXES | _POLYGONS | _ELLIPSES
_ANSWERS = frozenset(
    {"choices", "textarea", "rating", "taxonomy", "number", "datetime", "pairwise", "ranker", "relation"}
)
_PLACES = frozenset({"x", "points", "vertices", "rle", "sequence", "brushlabels", "imageDataURL"})  # they mark a place
TURNED = "a turned box; its upright extent is taken"
NEGATIVE = "a negative width or height; the box is turned round"
EXTENT = "its upright extent is taken as the box"


@dataclass(frozen=True, slots=True)
class Drawn:
    """Labels and corners in pixels of the boxes, in order, and how often each rule was applied to read them."""

    boxes: tuple[tuple[str, Corners], ...]
    rules: Mapping[str, int]


def drawn_boxes(result: Any, size: Size) -> Drawn:
    """Return the boxes of an annotation.

    Args:
        result: its list of regions.
        size: (width, height) of the image in pixels as displayed.

    Raises:
        ValueError: a region without exactly one label, or that is no box and cannot be left out; another image size;
            a number that is not finite.
        TypeError, AttributeError, KeyError, OverflowError: not a result at all.
    """
    if not isinstance(result, list):
        msg = f"its result is {result!r}, not a list of boxes"
        raise TypeError(msg)
    _refuse_other_shapes(result)
    rules: Counter[str] = Counter()
    labels = _labels_of_regions(result)
    boxes: list[tuple[str, Corners]] = []
    points = 0
    for item in result:
        _refuse_other_image(item, size)
        kind = _kind(item)
        is_label = kind == "labels" and repr(item.get("id")) in labels
        if kind in _SHAPES or (kind == "labels" and not is_label and "width" in item["value"]):
            boxes.append((_label(item, kind, labels), _corners(item["value"], kind, size, rules)))
        elif kind in _POINTS:
            points += 1
        elif not is_label:  # those were given to their regions
            _leave_out(item, kind, rules)
    if points and not boxes:
        msg = "its only regions are points, and a point has no extent; draw a box"
        raise ValueError(msg)
    rules.update({"a point is no box; it is left out": points} if points else {})
    return Drawn(tuple(boxes), rules)


def _refuse_other_shapes(result: Sequence[Any]) -> None:
    for item in result:
        if not isinstance(item, dict) or not isinstance(item.get("value", {}), dict):
            msg = f"its result holds {str(item)[:SHOWN]!r}, which is no region"
            raise TypeError(msg)


def as_written(drawn: Drawn, result: Sequence[Any], size: Size) -> Drawn:
    """Return the boxes of a file of our own, where a negative side was read from another format and has to stay.

    Args:
        drawn: what `drawn_boxes` made of `result`.
        result: upright boxes and nothing else; anything else was drawn by people, and `drawn` is returned.
        size: (width, height) of the image in pixels.
    """
    if set(drawn.rules) != {NEGATIVE} or len(drawn.boxes) != len(result):
        return drawn
    rows = [_numbers(item["value"], ("x", "y", "width", "height")) for item in result]
    boxes = [
        (x * size[0] / 100, y * size[1] / 100, width * size[0] / 100, height * size[1] / 100)
        for x, y, width, height in rows
    ]
    labels = (label for label, _ in drawn.boxes)
    return Drawn(tuple(zip(labels, map(corners_from_xywh, boxes), strict=True)), {})


def unit_problem(drawn: Iterable[tuple[Corners, Size]]) -> str:
    """Return why boxes are plainly not in per cent, and what to do; an empty text where they may be.

    Args:
        drawn: corners in pixels, computed from per cent, and the size of the image of each box.
    """
    boxes = [(_per_cent(corners, size), size) for corners, size in drawn if min(size) > 0]
    if boxes and all(_are_fractions(corners) for corners, _ in boxes):
        return (
            f"every box ({len(boxes)}) lies between 0 and 1 per cent of the image: they are normalized, fractions of "
            "the image, and per cent are expected; multiply x, y, width and height by 100"
        )
    far = sum(_is_far_over(corners) for corners, _ in boxes)
    if far and MANY * far >= len(boxes) and all(_fits(corners, size) for corners, size in boxes):
        return (
            f"boxes reach far over 100 per cent of the image ({far} of {len(boxes)}), and all of them fit as pixels; "
            "divide x and width by the width of the image, y and height by its height, and multiply by 100"
        )
    return ""


def _per_cent(corners: Corners, size: Size) -> Corners:
    x1, y1, x2, y2 = corners
    width, height = size
    return 100 * x1 / width, 100 * y1 / height, 100 * x2 / width, 100 * y2 / height


def _are_fractions(corners: Corners) -> bool:
    x, y, width, height = xywh_from_corners(corners)
    one = 1 + ROUNDING
    return 0 <= x <= one and 0 <= y <= one and 0 < width <= one and 0 < height <= one


def _fits(corners: Corners, size: Size) -> bool:
    x1, y1, x2, y2 = corners
    return 0 <= x1 < x2 <= size[0] + ROUNDING and 0 <= y1 < y2 <= size[1] + ROUNDING


def _is_far_over(corners: Corners) -> bool:
    x1, y1, x2, y2 = corners
    return x1 >= 100 or y1 >= 100 or x2 > FAR_OVER or y2 > FAR_OVER


def whole(value: object) -> int | None:
    """Return a whole number that may be written as 5, 5.0 or "5"; None for anything else."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?[0-9]{1,18}", value.strip()) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _kind(item: Mapping[str, Any]) -> str:
    """Return the type of a region; minimal exports leave it to the keys of the value."""
    kind = item.get("type")
    if isinstance(kind, str):
        return kind.lower()
    value = item.get("value", {})
    listed = next((key for key in value if str(key).endswith("labels") or key in _ANSWERS), "")
    return str(listed) or ("rectangle" if "width" in value else "")


def _labels_of_regions(result: Sequence[Any]) -> dict[str, list[Any]]:
    """Return the labels that stand apart from their region, by its id: pages of <Rectangle> and <Labels> do so."""
    labels: dict[str, list[Any]] = {repr(item.get("id")): [] for item in result if _kind(item) in _SHAPES}
    for item in result:
        if _kind(item) == "labels" and repr(item.get("id")) in labels:
            labels[repr(item.get("id"))] += item["value"]["labels"]
    return labels


def _refuse_other_image(item: Mapping[str, Any], size: Size) -> None:
    """Check that a region lies on the one image of the task, as it is displayed."""
    drawn_on = drawn_on_size(item) or size
    if drawn_on != size:
        msg = f"drawn on an image of {drawn_on[0]} x {drawn_on[1]}, the pool says {size[0]} x {size[1]}"
        raise ValueError(msg)
    if float(item.get("image_rotation") or 0) % 360 and isinstance(item.get("value"), dict) and _marks(item["value"]):
        msg = f"drawn on an image that was turned by {item['image_rotation']} degrees on the page; turn it back there"
        raise ValueError(msg)
    if item.get("item_index"):
        msg = "drawn on another image than the first of its task; one image per task is expected"
        raise ValueError(msg)


def drawn_on_size(item: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return (width, height) of the image that a region was drawn on; None where the region does not say."""
    width, height = item.get("original_width"), item.get("original_height")
    if width is None or height is None:
        return None
    sides = whole(width), whole(height)
    return sides if None not in sides else (width, height)


def _marks(value: Collection[Any]) -> bool:
    return any(key in value for key in _PLACES)


def _label(item: Mapping[str, Any], kind: str, apart: Mapping[str, list[Any]]) -> str:
    value = item.get("value")
    labels = apart.get(repr(item.get("id")))
    if isinstance(value, dict):
        labels = next((value[key] for key in _LABELS if value.get(key)), labels)
    if not isinstance(value, dict) or not isinstance(labels, list) or len(labels) != 1:
        msg = f"a region of type {kind!r} with labels {labels!r}; one labeled rectangle expected"
        raise ValueError(msg)
    return str(labels[0])


def _leave_out(item: Mapping[str, Any], kind: str, rules: Counter[str]) -> None:
    """Count what says nothing about a place; raise ValueError for a region that is no box."""
    value = item.get("value")
    if kind in _ANSWERS or (isinstance(value, dict) and not _marks(value)):
        rules[f"an entry of type {kind!r} is no box; it is left out"] += 1
        return
    msg = f"a region of type {kind!r}, which is no box; a labeled rectangle expected"
    raise ValueError(msg)


def _corners(value: Mapping[str, Any], kind: str, size: Size, rules: Counter[str]) -> Corners:
    if kind in _POLYGONS:
        rules[f"a polygon; {EXTENT}"] += 1
        return _extent_of_polygon(value, size)
    if kind in _ELLIPSES:
        rules[f"an ellipse; {EXTENT}"] += 1
        return _extent_of_ellipse(value, size)
    x, y, width, height, degrees = _numbers(value, ("x", "y", "width", "height", "rotation"))
    rules.update({NEGATIVE: 1} if width < 0 or height < 0 else {})
    rules.update({TURNED: 1} if degrees else {})
    x1, y1 = x * size[0] / 100, y * size[1] / 100
    x2, y2 = corners_from_xywh((x1, y1, width * size[0] / 100, height * size[1] / 100))[2:]
    upright = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
    # the page turns about the corner where the drawing began, also where it was drawn leftwards or upwards
    return extent_of_rotated(upright, math.radians(degrees), (x1, y1))


def _extent_of_polygon(value: Mapping[str, Any], size: Size) -> Corners:
    points = [_finite(point, 2) for point in value["points"]]
    if not points:
        msg = "a polygon without points; draw a box, or delete it"
        raise ValueError(msg)
    xs, ys = [x * size[0] / 100 for x, _ in points], [y * size[1] / 100 for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _extent_of_ellipse(value: Mapping[str, Any], size: Size) -> Corners:
    """Return the box around an ellipse; its centre is `x, y`, and it is turned about it."""
    x, y, radius_x, radius_y, degrees = _numbers(value, ("x", "y", "radiusX", "radiusY", "rotation"))
    x, radius_x = x * size[0] / 100, radius_x * size[0] / 100
    y, radius_y = y * size[1] / 100, radius_y * size[1] / 100
    sin, cos = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    half_width, half_height = math.hypot(radius_x * cos, radius_y * sin), math.hypot(radius_x * sin, radius_y * cos)
    return x - half_width, y - half_height, x + half_width, y + half_height


def _numbers(value: Mapping[str, Any], keys: Sequence[str]) -> list[float]:
    """Return the numbers of a region; only `rotation` may be missing.

    Raises:
        ValueError: one of them is missing, no number, or not finite.
    """
    return _finite([value.get(key, 0 if key == "rotation" else None) for key in keys], len(keys))


def _finite(values: Sequence[Any], count: int) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        msg = f"a box that is no numbers: {values!r}"
        raise ValueError(msg) from None
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        msg = f"a box that is not finite: {values!r}"
        raise ValueError(msg)
    return numbers
