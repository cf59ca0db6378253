"""A data set of images with one class each; it is to classification what `alloop.data.data_set` is to detection."""

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from alloop.data.annotation_json import class_label_sha256
from alloop.data.classification.labels import GroupedLabels
from alloop.values import ImageId, ImageRecord


@dataclass(frozen=True, slots=True)
class ClassifiedDataSet:
    """Images and their classes by image id.

    Attributes:
        name: of the source.
        images: the record of each image.
        annotations: the class of each labeled image.
        class_names: in label order.
        unlabeled: the images that nobody has labeled.
        groups: the group of each image, where a rule for groups was given.
    """

    name: str
    images: Mapping[ImageId, ImageRecord]
    annotations: GroupedLabels
    class_names: tuple[str, ...]
    unlabeled: frozenset[ImageId] = frozenset()
    groups: Mapping[ImageId, str] = field(default_factory=dict)

    @property
    def boxes(self) -> int:
        """Number of labels that are paid for; it has the name that it has in detection."""
        return len(self.annotations)

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The class indices; classes have no ids of their own."""
        return tuple(range(len(self.class_names)))

    def class_counts(self) -> list[int]:
        """Return the number of labels of each class, in label order."""
        return [int(count) for count in self.annotations.class_images(len(self.class_names))]

    def class_images(self) -> list[int]:
        """Return the number of images of each class, which is that of the labels."""
        return self.class_counts()

    def restricted(self, image_ids: AbstractSet[ImageId]) -> "ClassifiedDataSet":
        """Return the data set of those of its images."""
        return replace(
            self,
            images={i: record for i, record in self.images.items() if i in image_ids},
            annotations=self.annotations.restricted(image_ids),
            unlabeled=self.unlabeled & frozenset(image_ids),
            groups={i: group for i, group in self.groups.items() if i in image_ids},
        )

    def fingerprint(self) -> str:
        """Return the sha256 of everything that a run depends on: images, labels and classes."""
        digest = hashlib.sha256(repr(("classification", self.class_names)).encode())
        for image_id in sorted(self.images):
            image = self.images[image_id]
            label = "" if image_id in self.unlabeled else class_label_sha256(self.annotations[image_id])
            digest.update(f"{(image_id, image.file_name, image.width, image.height)!r}{label}".encode())
        if self.groups:
            digest.update(repr(sorted(self.groups.items())).encode())
        return digest.hexdigest()
