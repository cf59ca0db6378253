"""Boxes that are plainly not `(x, y, width, height)` in pixels."""

from collections.abc import Iterable, Mapping, Sequence

from alloop.data.records import Box
from alloop.geometry.boxes import Xywh
from alloop.values import ImageId, ImageRecord

LEAST = 5  # boxes; fewer may fit as corners by chance


def unit_problem(boxes: Sequence[Box], images: Mapping[ImageId, ImageRecord]) -> str:
    """Return why the boxes of a file are in another unit, and what to do; an empty text where they are not.

    Args:
        boxes: those of the whole file.
        images: by id; boxes of other images are left out.
    """
    if _are_fractions(boxes):
        return (
            f"all {len(boxes)} boxes lie between 0 and 1: they are normalized, fractions of the image, and pixels are "
            "expected; multiply x and width by the width of the image, y and height by its height"
        )
    if len(boxes) >= LEAST and _are_corners(boxes, images):
        return (
            f"all {len(boxes)} boxes fit as corners (x1, y1, x2, y2), and as the expected (x, y, width, height) more "
            "than half of them reach over the edge; subtract the first two numbers from the last two"
        )
    return ""


def _are_fractions(boxes: Iterable[Box]) -> bool:
    """Return whether all boxes lie in the unit square and one of them has a fraction. Most files end at a box."""
    has_fraction = False
    for box in boxes:
        x, y, width, height = box.bbox
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
            return False
        has_fraction = has_fraction or any(number % 1 for number in box.bbox)
    return has_fraction


def _are_corners(boxes: Iterable[Box], images: Mapping[ImageId, ImageRecord]) -> bool:
    """Return whether all boxes fit as corners and most do not fit as they should. Most files end at a box or two."""
    over = count = 0
    for box in boxes:
        image = images.get(box.image_id)
        if image is None or not _is_inside(box.bbox, image):
            return False
        x, y, width, height = box.bbox
        over += x + width > image.width or y + height > image.height
        count += 1
    return 2 * over > count


def _is_inside(corners: Xywh, image: ImageRecord) -> bool:
    x1, y1, x2, y2 = corners
    return 0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height
