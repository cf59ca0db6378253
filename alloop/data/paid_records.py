"""From paid annotations back to the records of annotation files."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
import numpy as np
from jaxtyping import Bool

from alloop.data.records import Box, Category, Records
from alloop.geometry.boxes import to_xywh, wide_enough
from alloop.values import Annotations, ImageId, ImageRecord

Ignored = Callable[[Annotations], Bool[np.ndarray, " n"]]


def records_of(
    images: Sequence[ImageRecord],
    truths: Mapping[ImageId, Annotations],
    classes: Sequence[Category],
    ignored: Ignored,
) -> Records:
    """Return images with their annotations as records; the boxes are numbered from 1.

    Args:
        images: the images, in the order of the records.
        truths: the annotations of each.
        classes: the classes in label order.
        ignored: which boxes of an image are marked `ignore`.
    """
    boxes: list[Box] = []
    for image in images:
        boxes += _boxes(image.image_id, truths[image.image_id], classes, ignored, len(boxes) + 1)
    return Records(list(images), list(classes), boxes)


def was_marked(truth: Annotations) -> Bool[np.ndarray, " n"]:
    """Return which boxes were marked `ignore` when they were read: wide enough, no crowd, and not trained on."""
    return np.asarray(wide_enough(truth.boxes) & never_trained(truth))


def never_trained(truth: Annotations) -> Bool[np.ndarray, " n"]:
    """Return which boxes are no crowd and are not trained on, for whatever reason."""
    return np.asarray(~truth.crowd & ~truth.trainable)


def _boxes(
    image_id: ImageId, truth: Annotations, classes: Sequence[Category], ignored: Ignored, first_id: int
) -> Iterator[Box]:
    marked = ignored(truth)
    for row, bbox in enumerate(to_xywh(truth.boxes.astype(float)).tolist()):
        box = Box(first_id + row, image_id, classes[truth.labels[row]].id, tuple(bbox), int(truth.crowd[row]))
        box.ignore, mask = int(marked[row]), truth.masks[row]
        box.segmentation = msgspec.Raw(b"null" if mask is None else bytes(mask))
        yield box
