"""Turned boxes in COCO files: `bbox` before the turn, and `attributes.rotation` in degrees.

CVAT writes them so. The turn is clockwise on the screen about the centre of the box. A detector learns upright boxes,
so the upright extent of the turned box is taken.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from alloop.data.notes import Notes
from alloop.data.records import Box
from alloop.errors import DataError
from alloop.geometry.boxes import Xywh, corners_from_xywh, extent_of_rotated, xywh_from_corners

_KEY = b'"rotation"'


class _Attributes(msgspec.Struct):
    rotation: float | str | None = None


class _Turned(msgspec.Struct):
    attributes: _Attributes | None = None


_TURNED = msgspec.json.Decoder(_Turned)
_BOX = msgspec.json.Decoder(Box)


def upright_boxes(path: Path, data: bytes, texts: Sequence[msgspec.Raw], notes: Notes) -> dict[int, Xywh]:
    """Return the extent of each turned box as `(x, y, width, height)` in pixels, by the row of its text.

    Args:
        path: the file, for messages.
        data: its bytes; a file without the key is not looked at any further.
        texts: the annotations.
        notes: the turned boxes are counted there.

    Raises:
        DataError: a rotation that is no finite number.
    """
    if _KEY not in data:
        return {}
    upright: dict[int, Xywh] = {}
    for row, text in enumerate(texts):
        degrees = _degrees(path, text) if _KEY in bytes(text) else 0.0
        if degrees:
            box = _BOX.decode(text)
            upright[row] = _extent(box.bbox, degrees)
            notes.add("turned by attributes.rotation; its upright extent is taken", f"annotations: id {box.id}")
    return upright


def _degrees(path: Path, text: msgspec.Raw) -> float:
    try:
        attributes = _TURNED.decode(text).attributes
        degrees = float((attributes.rotation if attributes else None) or 0)
    except (msgspec.MsgspecError, ValueError):
        degrees = math.nan
    if not math.isfinite(degrees):
        msg = f"{path}: annotations: id {_BOX.decode(text).id}: attributes.rotation: expected degrees, a finite number"
        raise DataError(msg)
    return degrees % 360


def _extent(bbox: Xywh, degrees: float) -> Xywh:
    corners = corners_from_xywh(bbox)
    x1, y1, x2, y2 = corners
    return xywh_from_corners(extent_of_rotated(corners, math.radians(degrees), ((x1 + x2) / 2, (y1 + y2) / 2)))
