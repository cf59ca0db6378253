"""Arithmetic of boxes. Corners are `(x1, y1, x2, y2)` in absolute pixels, with no `+1` anywhere.

This is the only place where corners are made from the `(x, y, width, height)` of the annotation files, and back.
Arrays hold one box per row.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, Float32

MIN_SIDE = 1.0  # pixels inside the image; a detector can neither match nor regress a thinner box
Number = int | float  # the checks of shapes in tests do not take an int for a float
Corners = tuple[Number, Number, Number, Number]  # (x1, y1, x2, y2)
Xywh = tuple[Number, Number, Number, Number]  # (x, y, width, height)


def area(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Return width times height of each box; 0 where a side is negative."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    product: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def pairwise_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of every pair; 0 where both boxes have no area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # [n, m, 2]
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])  # [n, m, 2]
    sides = np.maximum(high - low, 0)  # [n, m, 2]
    intersection = sides[..., 0] * sides[..., 1]  # [n, m]
    union = area(a)[:, None] + area(b)[None, :] - intersection  # [n, m]
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def paired_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Return the intersection over union of each row of `a` with the same row of `b`; 0 where both have no area."""
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    union = area(a) + area(b) - intersection
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def wide_enough(boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    """Return which boxes have sides of at least `MIN_SIDE`; rounding to float32 may shave a side of exactly that."""
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE * (1 - 1e-4)).all(axis=1))


def from_xywh(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Convert `(x, y, width, height)` to corners."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_xywh(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """Convert corners to `(x, y, width, height)`."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def corners_from_xywh(box: Xywh) -> Corners:
    """Convert one box to corners, as `from_xywh` does it for arrays."""
    x, y, width, height = box
    return x, y, x + width, y + height


def xywh_from_corners(box: Corners) -> Xywh:
    """Convert the corners of one box, as `to_xywh` does it for arrays."""
    x1, y1, x2, y2 = box
    return x1, y1, x2 - x1, y2 - y1


def extent_of_rotated(box: Corners, angle: float, centre: tuple[Number, Number]) -> Corners:
    """Return the upright box around a box that is turned about a point.

    Args:
        box: corners before the turn.
        angle: radians, clockwise on the screen (the y axis points down).
        centre: the point that stays where it is.
    """
    if not angle:
        return box
    x1, y1, x2, y2 = box
    turned = [_turned(x, y, angle, centre) for x in (x1, x2) for y in (y1, y2)]
    xs, ys = zip(*turned, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _turned(x: Number, y: Number, angle: float, centre: tuple[Number, Number]) -> tuple[float, float]:
    cx, cy = centre
    sin, cos = math.sin(angle), math.cos(angle)
    return cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos


def box_scale(size: tuple[int, int], new_size: tuple[int, int]) -> Float32[np.ndarray, "4"]:
    """Return the factors of the four corner coordinates when an image of `size` is resized to `new_size`.

    Both sizes are (width, height) in pixels.
    """
    return np.array([new_size[0] / size[0], new_size[1] / size[1]] * 2, dtype=np.float32)
