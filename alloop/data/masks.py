"""Instance masks from the segmentation of a COCO record: polygons, or RLE counted or packed.

pycocotools crashes on malformed input here, so the text is decoded and checked by our own few lines.
"""

from collections.abc import Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from jaxtyping import UInt8
from PIL import Image as PillowImage

from alloop.errors import DataError
from alloop.values import ImageRecord


def decode_masks(
    segmentations: Sequence[bytes | None], width: int, height: int, where: str
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
        masks[row] = decode_mask(text, width, height, name)
    return masks


def scaled_masks(
    segmentations: Sequence[bytes | None], record: ImageRecord, width: int, height: int
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


def decode_mask(segmentation: bytes, width: int, height: int, where: str) -> UInt8[np.ndarray, "h w"]:
    """One mask of 0 and 1."""
    tree: Any = msgspec.json.decode(segmentation)
    try:
        if isinstance(tree, list):
            return _polygons(tree, width, height)
        return _run_lengths(tree, width, height)
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        msg = f"{where}: expected polygons or RLE for an image of {width} x {height}, found something else ({error})"
        raise DataError(msg) from error


def _polygons(polygons: list[Any], width: int, height: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=np.uint8)
    for polygon in polygons:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
        if not np.isfinite(points).all() or np.abs(points).max(initial=0) > 1e6:
            msg = "polygon coordinates must be finite and inside a million pixels"
            raise ValueError(msg)
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask


def _run_lengths(tree: dict[str, Any], width: int, height: int) -> np.ndarray:
    if list(tree["size"]) != [height, width]:
        msg = f"size {tree['size']} is not [height, width] = [{height}, {width}]"
        raise ValueError(msg)
    counts = tree["counts"]
    runs = np.array(_unpack(counts) if isinstance(counts, str) else counts, dtype=np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != width * height:
        msg = f"the runs must be non-negative and add up to {width * height}"
        raise ValueError(msg)
    values = (np.arange(len(runs)) % 2).astype(np.uint8)
    return np.repeat(values, runs).reshape(width, height).T  # runs go down the columns


def _unpack(text: str) -> list[int]:
    """COCO's packed counts: base-32 digits from '0', low first, differences to the run before the last."""
    runs: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[position]) - 48
            if not 0 <= digit < 64:
                msg = f"character {text[position]!r} is not part of packed counts"
                raise ValueError(msg)
            value |= (digit & 0x1F) << shift
            more, shift, position = bool(digit & 0x20), shift + 5, position + 1
            if not more and digit & 0x10:
                value |= -1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
