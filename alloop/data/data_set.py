"""A data set: records that passed the rules, with corners in place of xywh and labels in place of category ids."""

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Literal

from alloop.data.annotation_json import annotation_hashes
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.values import ImageId, ImageRecord

Verdict = Literal["refused", "skipped", "clipped", "noted"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: the verdict, the location (file, key, id), and the reason."""

    verdict: Verdict
    where: str
    reason: str

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.verdict}: {self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Validated records: images and annotations by image id, the classes, and the findings of the validation.

    `unlabeled` are the images that nobody has finished annotating; their annotations are empty, which means nothing.
    `groups` gives the group of each image, where a rule for groups was given.
    """

    name: str
    images: Mapping[ImageId, ImageRecord]
    annotations: GroupedAnnotations
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    unlabeled: frozenset[ImageId] = frozenset()
    groups: Mapping[ImageId, str] = field(default_factory=dict)

    @property
    def boxes(self) -> int:
        """Number of boxes that are paid for."""
        return len(self.annotations.labels)

    def class_counts(self) -> list[int]:
        """Return the number of paid boxes of each class, in label order."""
        return [int(count) for count in self.annotations.class_boxes(len(self.class_names))]

    def class_images(self) -> list[int]:
        """Return the number of images that hold each class, in label order."""
        return [int(count) for count in self.annotations.class_images(len(self.class_names))]

    def restricted(self, image_ids: AbstractSet[ImageId]) -> "DataSet":
        """Return the data set of those of its images."""
        return replace(
            self,
            images={i: record for i, record in self.images.items() if i in image_ids},
            annotations=GroupedAnnotations.of_mapping({i: self.annotations[i] for i in self.images if i in image_ids}),
            unlabeled=self.unlabeled & frozenset(image_ids),
            groups={i: group for i, group in self.groups.items() if i in image_ids},
        )

    def fingerprint(self) -> str:
        """Return the sha256 of everything that a run depends on: images, boxes and classes."""
        digest = hashlib.sha256()
        digest.update(repr((self.class_names, self.category_ids)).encode())
        image_ids = sorted(self.images)
        for image_id, sha256 in zip(image_ids, annotation_hashes(self.annotations, image_ids), strict=True):
            image = self.images[image_id]
            digest.update(f"{(image_id, image.file_name, image.width, image.height)!r}{sha256}".encode())
        if self.unlabeled:
            digest.update(repr(sorted(self.unlabeled)).encode())
        if self.groups:
            digest.update(repr(sorted(self.groups.items())).encode())
        return digest.hexdigest()
