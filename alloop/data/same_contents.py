"""Whether what was written and read again is what was to be written: image by image and box by box."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float32

from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.geometry.boxes import MIN_SIDE
from alloop.values import Annotations, ImageId, ImageRecord

TOLERANCE = 0.01  # pixels; formats that hold fractions or decimal digits round
_SURE = MIN_SIDE + 1  # pixels; of a box with thinner sides, rounding may change whether it is trained on


def difference(expected: DataSet, found: DataSet, *, masks: bool) -> str:
    """Return the first difference between two data sets in words; empty where there is none.

    Compared are the classes and their order, every image with its id, file name and size, which images are unlabeled,
    and every box with its class, corners and flags. The boxes of an image may stand in another order. Ids of classes
    and of boxes are not compared, because formats other than COCO have none.

    Args:
        expected: what was to be written.
        found: what was read again.
        masks: also compare the masks.
    """
    if expected.class_names != found.class_names:
        return f"the classes are {_some(found.class_names)} instead of {_some(expected.class_names)}"
    if expected.unlabeled != found.unlabeled:
        return f"{len(found.unlabeled)} images are unlabeled instead of {len(expected.unlabeled)}"
    return _of_images(expected.images, found.images) or _of_boxes(expected, found, masks=masks)


def _some(names: Sequence[str]) -> str:
    return f"{list(names[:5])} and {len(names) - 5} more" if len(names) > 5 else str(list(names))


def _of_images(expected: Mapping[ImageId, ImageRecord], found: Mapping[ImageId, ImageRecord]) -> str:
    if expected == found:
        return ""
    if len(expected) != len(found):
        return f"there are {len(found)} images instead of {len(expected)}"
    image_id = next(image_id for image_id in expected if expected[image_id] != found.get(image_id))
    return f"image {image_id} is {found.get(image_id)} instead of {expected[image_id]}"


def _of_boxes(expected: DataSet, found: DataSet, *, masks: bool) -> str:
    """Compare the annotations; where they stand in one order, all of them at once."""
    before, after = expected.annotations, found.annotations
    if list(before) == list(after) and np.array_equal(before.ends, after.ends) and _equal(before, after, masks=masks):
        return ""
    for image_id in before:
        if not _matches(before[image_id], after[image_id], masks=masks):
            counts = f"{len(after[image_id])} boxes, {len(before[image_id])} were to be written"
            first = next(_unmatched(before[image_id], after[image_id], masks=masks), "a box that was not there")
            return f"image {image_id} ({expected.images[image_id].file_name}) has {counts}; it lacks {first}"
    return ""


def _equal(a: GroupedAnnotations, b: GroupedAnnotations, *, masks: bool) -> bool:
    sure = _wide(a.boxes)
    return (
        bool((abs(a.boxes - b.boxes) <= TOLERANCE).all())
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.crowd, b.crowd)
        and np.array_equal(a.trainable[sure], b.trainable[sure])
        and (not masks or [_text(mask) for mask in a.masks] == [_text(mask) for mask in b.masks])
    )


def _wide(boxes: Float32[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    return np.asarray((boxes[:, 2:] - boxes[:, :2] >= _SURE).all(axis=1))


def _text(mask: object) -> bytes | None:
    return None if mask is None else bytes(mask)  # type: ignore[call-overload]


def _matches(a: Annotations, b: Annotations, *, masks: bool) -> bool:
    return len(a) == len(b) and next(_unmatched(a, b, masks=masks), None) is None


def _unmatched(a: Annotations, b: Annotations, *, masks: bool) -> Iterator[str]:
    """Yield each box of `a`, in words, for which `b` has none that is free."""
    free = np.ones(len(b), dtype=np.bool_)
    for row in range(len(a)):
        same = free & (abs(b.boxes - a.boxes[row]) <= TOLERANCE).all(axis=1)
        same &= (b.labels == a.labels[row]) & (b.crowd == a.crowd[row])
        if _wide(a.boxes[row : row + 1])[0]:
            same &= b.trainable == a.trainable[row]
        if masks:
            same &= np.array([_text(mask) == _text(a.masks[row]) for mask in b.masks], dtype=np.bool_)
        if not same.any():
            yield f"the box {a.boxes[row].tolist()} of class number {a.labels[row]}"
        free[int(same.argmax()) if same.any() else []] = False
