"""The records of an annotation file, as they stand in it: nothing is checked and nothing is converted.

Every format is read into these. `alloop.data.validation` checks them and turns them into a `DataSet`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from alloop.data.notes import Note
from alloop.values import ImageId, ImageRecord


class Category(msgspec.Struct, gc=False):
    """A class of objects. Ids may be sparse and may be 0; the order of the list gives the labels."""

    id: int
    name: str


class Box(msgspec.Struct, gc=False):
    """One annotation. `bbox` is `(x, y, width, height)` in pixels, `segmentation` the JSON text of a COCO mask.

    `ignore` is 1 for an object that counts neither as found nor as missed, as `difficult` in Pascal VOC.
    """

    id: int
    image_id: ImageId
    category_id: int
    bbox: tuple[float, float, float, float]  # decoded as floats, also where the file has whole numbers
    iscrowd: int = 0
    area: float | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    ignore: int = 0


class Records(msgspec.Struct):
    """A whole annotation file.

    Attributes:
        images: every image that the file lists or that lies in its folder.
        categories: the classes; the order of the list gives the labels.
        annotations: the boxes; possibly a sequence that decodes each box anew on every pass.
        unlabeled: the images that nobody has finished annotating. An image without a box that is not among them is
            empty: somebody looked at it and found nothing.
        classes_are_seen: whether the categories are only those that occur in the file, because the format or this
            file has no place for a list of classes.
        notes: what was read leniently.
        groups: the group of each image that has one, for example its video.
    """

    images: list[ImageRecord]
    categories: list[Category]
    annotations: Sequence[Box] = []
    unlabeled: frozenset[ImageId] = frozenset()
    classes_are_seen: bool = False
    notes: tuple[Note, ...] = ()
    groups: Mapping[ImageId, str] = {}

    def boxes_by_image(self) -> dict[ImageId, list[Box]]:
        """Return the boxes of each image in file order; an empty list for an image without a box."""
        boxes: dict[ImageId, list[Box]] = {image.image_id: [] for image in self.images}
        for box in self.annotations:
            boxes.setdefault(box.image_id, []).append(box)
        return boxes

    def category_names(self) -> dict[int, str]:
        """Return the class names by category id."""
        return {category.id: category.name for category in self.categories}
