"""Arithmetic of boxes: float32 `(x1, y1, x2, y2)`, absolute pixels, no `+1` anywhere."""

import numpy as np
from jaxtyping import Float, Float32


def area(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Width times height of each box; 0 where a side is negative."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    product: np.ndarray = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def pairwise_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair; 0 where both boxes have no area."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # [n, m, 2]
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])  # [n, m, 2]
    sides = np.maximum(high - low, 0)  # [n, m, 2]
    intersection = sides[..., 0] * sides[..., 1]  # [n, m]
    union = area(a)[:, None] + area(b)[None, :] - intersection  # [n, m]
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def paired_iou(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, " n"]:
    """Intersection over union of each row of `a` with the same row of `b`; 0 where both have no area."""
    sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
    intersection = sides[:, 0] * sides[:, 1]
    union = area(a) + area(b) - intersection
    iou: np.ndarray = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return iou


def from_xywh(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """`(x, y, width, height)` of the format files to `(x1, y1, x2, y2)`."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_xywh(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    """`(x1, y1, x2, y2)` to the `(x, y, width, height)` of the format files."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def box_scale(size: tuple[int, int], new_size: tuple[int, int]) -> Float32[np.ndarray, "4"]:
    """Return the factors of the four xyxy coordinates when an image of `size` is resized to `new_size`.

    Both sizes are (width, height) in pixels.
    """
    return np.array([new_size[0] / size[0], new_size[1] / size[1]] * 2, dtype=np.float32)


def clip(boxes: Float[np.ndarray, "n 4"], width: int, height: int) -> Float[np.ndarray, "n 4"]:
    """Cut boxes to the image `0 .. width`, `0 .. height`."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    cut: np.ndarray = np.clip(boxes, 0, limit)
    return cut
