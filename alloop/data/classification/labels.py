"""The class of each image of a split, and the records of its images.

An image gets its id from its name, so that it keeps the id when other images come or go: the first 52 bits of the
sha256 of the name, which JSON holds exactly. Two names with one id are refused; among a million images the chance of
that is about 1 in 9,000.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np
from jaxtyping import Int64

from alloop.class_values import ClassLabel
from alloop.data.classification.classified import UNLABELED, ClassifiedImages
from alloop.data.image_index import index_of_folder
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord, read_only

ID_BITS = 52


class GroupedLabels(Mapping[ImageId, ClassLabel]):
    """The class of each labeled image, in the order of the source.

    Attributes:
        labels: of the images, in their order.
    """

    def __init__(self, image_ids: Sequence[ImageId], labels: Int64[np.ndarray, " n"]) -> None:
        """Keep the labels of distinct images."""
        self._rows = {image_id: row for row, image_id in enumerate(image_ids)}
        self.labels: Int64[np.ndarray, " n"] = read_only(np.array(labels, dtype=np.int64))

    def __getitem__(self, image_id: ImageId) -> ClassLabel:
        """Return the class of one image."""
        return ClassLabel(int(self.labels[self._rows[image_id]]))

    def __iter__(self) -> Iterator[ImageId]:
        """Iterate over the image ids in the order of the source."""
        return iter(self._rows)

    def __contains__(self, image_id: object) -> bool:
        """Return whether this is one of the images."""
        return image_id in self._rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def restricted(self, image_ids: AbstractSet[ImageId]) -> "GroupedLabels":
        """Return the labels of those of its images."""
        kept = [image_id for image_id in self._rows if image_id in image_ids]
        return GroupedLabels(kept, self.labels[[self._rows[image_id] for image_id in kept]])

    def class_images(self, classes: int) -> Int64[np.ndarray, " classes"]:
        """Return the number of images of each of the classes `0 .. classes - 1`."""
        return np.bincount(self.labels, minlength=classes)


def image_id_of(name: str) -> ImageId:
    """Return the id of an image by its name."""
    return ImageId(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> (64 - ID_BITS))


def records_of(classified: ClassifiedImages) -> list[ImageRecord]:
    """Return the record of each image; the sizes of files are read from their headers.

    Raises:
        DataError: a file that is no image, or two names with one id.
    """
    if classified.pixels is not None:
        height, width = classified.pixels.shape[1:3]
        sizes = [(width, height)] * len(classified.names)
    else:
        assert classified.folder is not None
        index = index_of_folder(classified.folder)
        sizes = [index.size_of(name) for name in classified.names]
    records = [ImageRecord(image_id_of(name), name, *size) for name, size in zip(classified.names, sizes, strict=True)]
    by_id: dict[ImageId, str] = {}
    for record in records:
        if record.image_id in by_id:
            msg = f"{by_id[record.image_id]} and {record.file_name} have the same image id; rename one of them"
            raise DataError(msg)
        by_id[record.image_id] = record.file_name
    return records


def labels_of(classified: ClassifiedImages, records: Sequence[ImageRecord]) -> tuple[GroupedLabels, set[ImageId]]:
    """Return the classes of the labeled images, and the images that nobody has labeled."""
    known = classified.labels != UNLABELED
    ids = [record.image_id for record, is_known in zip(records, known, strict=True) if is_known]
    unlabeled = {record.image_id for record, is_known in zip(records, known, strict=True) if not is_known}
    return GroupedLabels(ids, classified.labels[known]), unlabeled
