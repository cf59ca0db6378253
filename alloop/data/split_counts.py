"""How many boxes, images and groups of each class there are, counted in one pass over the boxes."""

from dataclasses import dataclass

from alloop.data.records import Records
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of a data set; `boxes`, `images` and `groups` have a number for each class, in label order.

    Attributes:
        boxes: the boxes of each class, crowds as well.
        images: the images that have each class.
        groups: the groups that have each class; where there are no groups, the same as `images`.
        crowds: the crowd boxes of all classes.
        labeled: the images that somebody has annotated.
        empty: the annotated images without a box.
    """

    boxes: tuple[int, ...]
    images: tuple[int, ...]
    groups: tuple[int, ...]
    crowds: int
    labeled: int
    empty: int


def counted(records: Records) -> Counts:
    """Return the counts of validated records."""
    labels = {category.id: label for label, category in enumerate(records.categories)}
    boxes, crowds = [0] * len(labels), 0
    images: list[set[ImageId]] = [set() for _ in labels]
    for box in records.annotations:
        label = labels[box.category_id]
        boxes[label] += 1
        crowds += box.iscrowd
        images[label].add(box.image_id)
    groups = [{records.groups.get(image_id, image_id) for image_id in own} for own in images]
    labeled = len(records.images) - len(records.unlabeled)
    return Counts(
        boxes=tuple(boxes),
        images=tuple(map(len, images)),
        groups=tuple(map(len, groups)),
        crowds=crowds,
        labeled=labeled,
        empty=labeled - len(set[ImageId]().union(*images)),
    )
