"""Instance masks from the segmentation of a COCO record: polygons, or RLE counted or packed.

pycocotools crashes on malformed input here, so the text is decoded and checked by our own few lines.
Only the part of the canvas that a mask can reach is ever drawn.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image as PillowImage

from alloop.errors import DataError
from alloop.values import ImageRecord, Segmentation

FARTHEST = 1e6  # pixels; a polygon that reaches farther is a typing error, and makes OpenCV crash
LARGEST = 1 << 28  # pixels of one mask; more would be an attack on the memory


class Patch(NamedTuple):
    """The part of a mask's canvas outside of which it is empty: uint8 `[h, w]` of 0 and 1, and where it begins."""

    mask: np.ndarray
    left: int
    top: int


def decode_masks(
    segmentations: Sequence[Segmentation | None], width: int, height: int, where: str
) -> UInt8[np.ndarray, "n h w"]:
    """One uint8 mask a record.

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
    """The masks of an image's records at the size its pixels are used at, by nearest neighbour."""
    full = decode_masks(segmentations, record.width, record.height, f"image {record.image_id}")
    if not len(full):
        return np.zeros((0, height, width), dtype=np.uint8)
    return np.stack([resized_mask(mask, width, height) for mask in full])


def resized_mask(mask: UInt8[np.ndarray, "h w"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2"]:
    """Nearest neighbour."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(PillowImage.fromarray(mask).resize((width, height), PillowImage.Resampling.NEAREST))


def decode_mask(segmentation: Segmentation, width: int, height: int, where: str) -> UInt8[np.ndarray, "h w"]:
    """One mask of 0 and 1, on the whole canvas."""
    mask: np.ndarray = decode_masks([segmentation], width, height, where)[0]
    return mask


def decode_patch(segmentation: Segmentation, width: int, height: int, where: str) -> Patch:
    """One mask on the part of its canvas that it reaches.

    Polygons are cut to whole pixels, filled with their outline and joined, as OpenCV's `fillPoly` does it.

    Raises:
        DataError: anything but polygons or RLE of an image of this size, or a mask beyond reason.
    """
    try:
        tree: Any = msgspec.json.decode(segmentation)
        return _polygons(tree, width, height) if isinstance(tree, list) else _run_lengths(tree, width, height)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        msg = f"{where}: expected polygons or RLE for an image of {width} x {height}, found something else ({error})"
        raise DataError(msg) from error


def _canvas(left: int, top: int, right: int, bottom: int) -> Patch:
    """An empty patch from (left, top) to (right, bottom), both inside."""
    height, width = max(0, bottom - top + 1), max(0, right - left + 1)
    if height * width > LARGEST:
        msg = f"a mask of {width} x {height} pixels is too large"
        raise ValueError(msg)
    return Patch(np.zeros((height, width), dtype=np.uint8), left, top)


def _polygons(polygons: list[Any], width: int, height: int) -> Patch:
    corners = []
    for polygon in polygons:
        if not isinstance(polygon, list) or len(polygon) % 2:
            msg = "a polygon is a list of x, y, x, y and so on"
            raise ValueError(msg)
        if polygon:
            corners.append(np.array(polygon, dtype=np.float64).reshape(-1, 2))
    if not corners:
        return _canvas(0, 0, -1, -1)
    low = np.minimum.reduce([points.min(axis=0) for points in corners]).tolist()
    high = np.maximum.reduce([points.max(axis=0) for points in corners]).tolist()
    if not (min(low) >= -FARTHEST and max(high) <= FARTHEST):  # also when one is not a number
        msg = "polygon coordinates must be finite and inside a million pixels"
        raise ValueError(msg)
    patch = _canvas(
        max(0, int(low[0])), max(0, int(low[1])), min(width - 1, int(high[0])), min(height - 1, int(high[1]))
    )
    if patch.mask.size:
        for points in corners:
            cv2.fillPoly(patch.mask, [points.astype(np.int32)], 1, offset=(-patch.left, -patch.top))
    return patch


def _run_lengths(tree: dict[str, Any], width: int, height: int) -> Patch:
    if list(tree["size"]) != [height, width]:
        msg = f"size {tree['size']} is not [height, width] = [{height}, {width}]"
        raise ValueError(msg)
    counts = tree["counts"]
    runs = np.array(_unpack(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or (runs > width * height).any() or runs.sum() != width * height:
        msg = f"the runs must be non-negative and add up to {width * height}"
        raise ValueError(msg)
    ends = np.cumsum(runs)
    inside = np.flatnonzero(runs[1::2] > 0) * 2 + 1  # runs of 1, empty ones left out
    if not len(inside):
        return _canvas(0, 0, -1, -1)
    # runs go down the columns, so the columns a mask reaches lie side by side
    left, right = int(ends[inside[0] - 1]) // height, (int(ends[inside[-1]]) - 1) // height
    patch = _canvas(left, 0, right, height - 1)
    column_first = patch.mask.reshape(right - left + 1, height)
    flat, start = column_first.reshape(-1), left * height
    for run in inside.tolist():
        flat[int(ends[run - 1]) - start : int(ends[run]) - start] = 1
    rows = np.flatnonzero(column_first.any(axis=0))
    return Patch(np.ascontiguousarray(column_first[:, rows[0] : rows[-1] + 1].T), left, int(rows[0]))


def _unpack(text: str) -> list[int]:
    """COCO's packed counts: base-32 digits from '0', low first, differences to the run before the last."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[position]) - 48
            if not 0 <= digit < 64 or shift > 60:
                msg = f"character {text[position]!r} at {position} is not part of packed counts"
                raise ValueError(msg)
            value |= (digit & 0x1F) << shift
            more, shift, position = bool(digit & 0x20), shift + 5, position + 1
            if not more and digit & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs


def encode_mask(mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> bytes:
    """A mask as a COCO segmentation: RLE with its counts written out, from the top left down the columns."""
    flat = np.asarray(mask, dtype=np.bool_).T.reshape(-1)
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate([[0], changes, [flat.size]])
    counts = np.diff(bounds).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return json.dumps({"size": list(mask.shape), "counts": counts}).encode()
