"""Instance masks from the segmentation of a COCO record: polygons, or RLE whose counts are plain or packed.

pycocotools decodes the runs, but malformed runs crash it and take the process along. So the text is parsed and
checked here first, and only runs that add up are handed on. Only the part of the canvas that a mask can reach is
ever drawn.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8
from PIL import Image as PillowImage
from pycocotools import mask as coco_mask

from alloop.errors import DataError
from alloop.values import ImageRecord, Segmentation

FARTHEST = 1e6  # pixels; a polygon that reaches farther is a typing error, and makes OpenCV crash
LARGEST = 1 << 28  # pixels of one mask; more would be an attack on the memory


class Patch(NamedTuple):
    """The part of a canvas outside of which a mask is empty: uint8 `[h, w]` of 0 and 1, and its top left corner."""

    mask: np.ndarray
    left: int
    top: int


def decode_masks(
    segmentations: Sequence[Segmentation | None], width: int, height: int, where: str
) -> UInt8[np.ndarray, "n h w"]:
    """Return one mask of 0 and 1 per record, each on the whole canvas.

    Raises:
        DataError: a record without a mask, or one that does not describe an image of this size.
    """
    masks = np.zeros((len(segmentations), height, width), dtype=np.uint8)
    for row, text in enumerate(segmentations):
        name = f"{where}, annotation {row + 1}"
        if text is None:
            msg = f"{name}: has a box but no segmentation; masks are needed here, so draw them or use a box detector"
            raise DataError(msg)
        patch = decode_patch(text, width, height, name)
        masks[row, patch.top :, patch.left :][: patch.mask.shape[0], : patch.mask.shape[1]] = patch.mask
    return masks


def scaled_masks(
    segmentations: Sequence[Segmentation | None], record: ImageRecord, width: int, height: int
) -> UInt8[np.ndarray, "n h w"]:
    """Return the masks of an image's records, resized by nearest neighbour to the size that its pixels have."""
    full = decode_masks(segmentations, record.width, record.height, f"image {record.image_id}")
    if not len(full):
        return np.zeros((0, height, width), dtype=np.uint8)
    return np.stack([resized_mask(mask, width, height) for mask in full])


def resized_mask(mask: UInt8[np.ndarray, "h w"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2"]:
    """Resize a mask by nearest neighbour."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(PillowImage.fromarray(mask).resize((width, height), PillowImage.Resampling.NEAREST))


def decode_mask(segmentation: Segmentation, width: int, height: int, where: str) -> UInt8[np.ndarray, "h w"]:
    """Return one mask of 0 and 1 on the whole canvas; see `decode_patch`."""
    mask: np.ndarray = decode_masks([segmentation], width, height, where)[0]
    return mask


def decode_patch(segmentation: Segmentation, width: int, height: int, where: str) -> Patch:
    """Return one mask on the part of its canvas that it reaches.

    Polygons are cut to whole pixels, filled with their outline and joined, as OpenCV's `fillPoly` does it.

    Args:
        segmentation: polygons or RLE as JSON.
        width: of the image, in pixels.
        height: of the image, in pixels.
        where: how messages call the record.

    Raises:
        DataError: anything but polygons or RLE of an image of this size, or a mask beyond reason.
    """
    try:
        tree: Any = msgspec.json.decode(segmentation)
        return _from_polygons(tree, width, height) if isinstance(tree, list) else _from_runs(tree, width, height)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        msg = f"{where}: expected polygons or RLE for an image of {width} x {height}, found something else ({error})"
        raise DataError(msg) from error


def _empty_patch(left: int, top: int, right: int, bottom: int) -> Patch:
    """Return an empty patch from (left, top) to (right, bottom), both inside."""
    height, width = max(0, bottom - top + 1), max(0, right - left + 1)
    _refuse_too_large(width, height)
    return Patch(np.zeros((height, width), dtype=np.uint8), left, top)


def _refuse_too_large(width: int, height: int) -> None:
    if width * height > LARGEST:
        msg = f"a mask of {width} x {height} pixels is too large"
        raise ValueError(msg)


def _from_polygons(polygons: list[Any], width: int, height: int) -> Patch:
    """Fill polygons with OpenCV, as TFDP's released code does; pycocotools draws other pixels at their outlines."""
    outlines = [_outline(polygon) for polygon in polygons if polygon or not isinstance(polygon, list)]
    if not outlines:
        return _empty_patch(0, 0, -1, -1)
    low = np.minimum.reduce([points.min(axis=0) for points in outlines]).tolist()
    high = np.maximum.reduce([points.max(axis=0) for points in outlines]).tolist()
    if not (min(low) >= -FARTHEST and max(high) <= FARTHEST):  # also when one is not a number
        msg = "polygon coordinates must be finite and inside a million pixels"
        raise ValueError(msg)
    right, bottom = min(width - 1, int(high[0])), min(height - 1, int(high[1]))
    patch = _empty_patch(max(0, int(low[0])), max(0, int(low[1])), right, bottom)
    if patch.mask.size:
        for points in outlines:
            cv2.fillPoly(patch.mask, [points.astype(np.int32)], 1, offset=(-patch.left, -patch.top))
    return patch


def _outline(polygon: Any) -> Float64[np.ndarray, "n 2"]:
    if not isinstance(polygon, list) or len(polygon) % 2:
        msg = "a polygon is a list of x, y, x, y and so on"
        raise ValueError(msg)
    return np.array(polygon, dtype=np.float64).reshape(-1, 2)


def _from_runs(tree: dict[str, Any], width: int, height: int) -> Patch:
    runs = _checked_runs(tree, width, height)
    ends = np.cumsum(runs)
    inside = np.flatnonzero(runs[1::2] > 0) * 2 + 1  # runs of 1, without empty ones
    if not len(inside):
        return _empty_patch(0, 0, -1, -1)
    first, last = int(inside[0]), int(inside[-1])
    begin, end = int(ends[first - 1]), int(ends[last])
    # runs go down the columns, so the columns that a mask reaches lie side by side
    left, right = begin // height, (end - 1) // height
    columns = right - left + 1
    _refuse_too_large(columns, height)
    counts = [begin - left * height, *runs[first : last + 1].tolist(), (right + 1) * height - end]
    mask = coco_mask.decode(coco_mask.frPyObjects({"size": [height, columns], "counts": counts}, height, columns))
    rows = np.flatnonzero(mask.any(axis=1))
    return Patch(np.ascontiguousarray(mask[rows[0] : rows[-1] + 1]), left, int(rows[0]))


def _checked_runs(tree: dict[str, Any], width: int, height: int) -> Int64[np.ndarray, " n"]:
    """Return the lengths of the runs, which alternate between 0 and 1 and go down the columns.

    Raises:
        ValueError: another size, or runs that do not fill the canvas exactly.
    """
    if list(tree["size"]) != [height, width]:
        msg = f"size {tree['size']} is not [height, width] = [{height}, {width}]"
        raise ValueError(msg)
    counts = tree["counts"]
    runs = np.array(_unpacked(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        msg = f"the runs must be non-negative and add up to {width * height}"
        raise ValueError(msg)
    return runs


def _unpacked(text: str) -> list[int]:
    """Return the runs of COCO's packed counts: base-32 digits from '0', low first, as differences.

    The first three runs stand for themselves, a later one for the difference to the run before the last.
    """
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, position = _packed_number(text, position)
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def _packed_number(text: str, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position after it."""
    value = shift = 0
    while True:
        digit = ord(text[position]) - 48
        if not 0 <= digit < 64 or shift > 60:
            msg = f"character {text[position]!r} at {position} is not part of packed counts"
            raise ValueError(msg)
        value |= (digit & 0x1F) << shift
        shift, position = shift + 5, position + 1
        if not digit & 0x20:  # the last digit; its highest bit is the sign
            return (value | -1 << shift if digit & 0x10 else value), position


def encode_mask(mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> bytes:
    """Return a mask as a COCO segmentation: RLE with plain counts, from the top left down the columns.

    pycocotools would pack the counts; they stay plain, because the text is part of the hash of the annotations.
    """
    flat = np.asarray(mask, dtype=np.bool_).T.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(bounds).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return json.dumps({"size": list(mask.shape), "counts": counts}).encode()
