"""Sizes of images and boxes in pixels, by which the size of a detector's input and of its anchors is chosen."""

from collections import Counter

import numpy as np
from jaxtyping import Float64

from alloop.data.classification.data_set import ClassifiedDataSet
from alloop.data.data_set import DataSet

SHARES = (0.1, 0.5, 0.9)  # of the boxes that are smaller


def image_sizes(dataset: DataSet | ClassifiedDataSet) -> str:
    """Return in words how wide and high images are: the one size, or the commonest and both ends by area."""
    sizes = Counter((image.width, image.height) for image in dataset.images.values())
    if not sizes:
        return ""
    commonest = sizes.most_common(1)[0]
    ordered = sorted(sizes, key=lambda size: size[0] * size[1])
    if len(sizes) == 1:
        return _size(ordered[0])
    share = commonest[1] / len(dataset.images)
    return f"{_size(ordered[0])} to {_size(ordered[-1])}, {share:.0%} {_size(commonest[0])}"


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def box_sides(
    dataset: DataSet, short_side: int | None = None, long_side: int | None = None
) -> Float64[np.ndarray, " n"]:
    """Return the root of the area of each box that is trained on, in pixels.

    Args:
        dataset: the data set.
        short_side: what images are scaled to; None for pixels of the images as they are.
        long_side: upper limit of the long side in pixels; None for no limit.
    """
    truths = dataset.annotations
    images = [dataset.images[image_id] for image_id in truths]
    short, long = (np.array([of(image.width, image.height) for image in images], dtype=np.float64) for of in (min, max))
    scale = np.ones(len(images)) if short_side is None else short_side / short
    scale = scale if long_side is None else np.minimum(scale, long_side / long)
    of_box = np.repeat(scale, np.diff(truths.ends, prepend=0))
    width, height = (truths.boxes[:, 2:] - truths.boxes[:, :2]).astype(np.float64).T
    found: Float64[np.ndarray, " n"] = (np.sqrt(width * height) * of_box)[truths.trainable]
    return found


def shown_sides(sides: Float64[np.ndarray, " n"]) -> str:
    """Return the sides below which a tenth, a half and nine tenths of the boxes are, in pixels."""
    return " / ".join(f"{side:.0f}" for side in np.quantile(sides, SHARES)) if len(sides) else ""
