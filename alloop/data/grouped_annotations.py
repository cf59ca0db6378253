"""The annotations of all images as a few long arrays, from which one image's are cut out.

This keeps large files small in memory, and counts are one array operation: an object per box would take a gigabyte for
a few million boxes, and an object per image takes longer to make than everything that is asked of it.
"""

from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from alloop.data.records import Box, Records
from alloop.geometry.boxes import from_xywh, wide_enough
from alloop.values import Annotations, ImageId, ImageRecord, Segmentation, read_only

FARTHEST = 1e9  # pixels; coordinates beyond are cut to this, so that x + width cannot overflow
_AT_ONCE = 65_536  # boxes that are converted at once, so that little memory is needed beside the columns


class GroupedAnnotations(Mapping[ImageId, Annotations]):
    """The annotations of all images, in file order. `[image_id]` returns one image's, as views of the columns.

    The boxes of an image stand together, image after image. The columns are read-only and have a row for each box.

    Attributes:
        boxes: corners.
        labels: classes.
        crowd: whether a box stands for a group of objects.
        trainable: whether a box is trained on.
        ids: of the boxes in their file; empty where not every box has one.
        masks: the mask of each box; empty where no box has one.
        ends: for each image the row behind its last box.
    """

    def __init__(
        self,
        image_ids: Sequence[ImageId],
        counts: Int64[np.ndarray, " images"],
        columns: Annotations,
    ) -> None:
        """Keep the columns.

        Args:
            image_ids: distinct images.
            counts: the number of boxes of each.
            columns: all boxes as if they were those of one image, image after image.
        """
        self._rows = {image_id: row for row, image_id in enumerate(image_ids)}
        self.ends: Int64[np.ndarray, " images"] = read_only(np.cumsum(counts, dtype=np.int64))
        self.boxes: Float32[np.ndarray, "n 4"] = columns.boxes
        self.labels: Int64[np.ndarray, " n"] = columns.labels
        self.crowd: Bool[np.ndarray, " n"] = columns.crowd
        self.trainable: Bool[np.ndarray, " n"] = columns.trainable
        self.ids: Int64[np.ndarray, " n"] = columns.ids
        self.masks: tuple[Segmentation | None, ...] = (
            columns.masks if any(mask is not None for mask in columns.masks) else ()
        )

    @classmethod
    def of_records(cls, records: Records) -> "GroupedAnnotations":
        """Return the annotations of records, which must have passed the validation."""
        image_ids = [image.image_id for image in records.images]
        columns = _Columns(records, {image_id: row for row, image_id in enumerate(image_ids)})
        image_rows = np.frombuffer(columns.image_rows, dtype=np.int64)
        order = _order(image_rows)
        boxes = _clipped(np.frombuffer(columns.bbox, dtype=np.float64).reshape(-1, 4), image_rows, records.images)
        columns.bbox = array("d")  # the largest column is not needed any more
        crowd = np.frombuffer(columns.crowd, dtype=np.bool_)
        trainable = wide_enough(boxes) & ~crowd & ~np.frombuffer(columns.ignored, dtype=np.bool_)
        grouped = Annotations(
            boxes=read_only(boxes[order]),
            labels=read_only(np.frombuffer(columns.labels, dtype=np.int64)[order]),
            crowd=read_only(crowd[order]),
            trainable=read_only(trainable[order]),
            masks=tuple(map(columns.masks.get, np.arange(len(boxes))[order].tolist())) if columns.masks else (),
            ids=read_only(np.frombuffer(columns.ids, dtype=np.int64)[order]),
        )
        return cls(image_ids, np.bincount(image_rows, minlength=len(image_ids)), grouped)

    @classmethod
    def of_mapping(cls, truths: Mapping[ImageId, Annotations]) -> "GroupedAnnotations":
        """Return the same annotations in columns."""
        parts = list(truths.values())
        counts = np.array([len(truth) for truth in parts], dtype=np.int64)
        whole = all(len(truth.ids) == len(truth) for truth in parts)
        columns = Annotations(
            boxes=np.concatenate([np.zeros((0, 4), dtype=np.float32), *(truth.boxes for truth in parts)]),
            labels=np.concatenate([np.zeros(0, dtype=np.int64), *(truth.labels for truth in parts)]),
            crowd=np.concatenate([np.zeros(0, dtype=np.bool_), *(truth.crowd for truth in parts)]),
            trainable=np.concatenate([np.zeros(0, dtype=np.bool_), *(truth.trainable for truth in parts)]),
            masks=tuple(mask for truth in parts for mask in truth.masks),
            ids=np.concatenate([np.zeros(0, dtype=np.int64), *(truth.ids for truth in parts if whole)]),
        )
        return cls(list(truths), counts, columns)

    def __getitem__(self, image_id: ImageId) -> Annotations:
        """Return one image's annotations; the arrays are views."""
        begin, end = self.span(image_id)
        return Annotations(
            boxes=self.boxes[begin:end],
            labels=self.labels[begin:end],
            crowd=self.crowd[begin:end],
            trainable=self.trainable[begin:end],
            masks=self.masks[begin:end],
            ids=self.ids[begin:end],
        )

    def __iter__(self) -> Iterator[ImageId]:
        """Iterate over the image ids in file order."""
        return iter(self._rows)

    def __contains__(self, image_id: object) -> bool:
        """Return whether this is one of the images; nothing is cut out for the answer."""
        return image_id in self._rows

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)

    def span(self, image_id: ImageId) -> tuple[int, int]:
        """Return the first row of an image's boxes and the row behind the last one."""
        row = self._rows[image_id]
        return int(self.ends[row - 1]) if row else 0, int(self.ends[row])

    @cached_property
    def counts(self) -> Int64[np.ndarray, " images"]:
        """The number of boxes of each image."""
        return read_only(np.diff(self.ends, prepend=0))

    def class_boxes(self, classes: int) -> Int64[np.ndarray, " classes"]:
        """Return the number of boxes of each of the classes `0 .. classes - 1`."""
        return np.bincount(self.labels, minlength=classes)

    def class_images(self, classes: int) -> Int64[np.ndarray, " classes"]:
        """Return the number of images that hold each of the classes `0 .. classes - 1`."""
        image_rows = np.repeat(np.arange(len(self), dtype=np.int64), self.counts)
        return np.bincount(np.unique(image_rows * classes + self.labels) % max(1, classes), minlength=classes)

    def lacking_mask(self) -> ImageId | None:
        """Return the first image with a trainable box that has no mask; None where there is none."""
        without = np.array([mask is None for mask in self.masks], dtype=np.bool_) if self.masks else True
        rows = np.flatnonzero(self.trainable & without)
        return list(self)[int(np.searchsorted(self.ends, rows[0], side="right"))] if len(rows) else None


class _Columns:
    """The fields of all boxes, one growing array per field, filled in a single pass over the records."""

    def __init__(self, records: Records, image_rows: Mapping[ImageId, int]) -> None:
        self.image_rows, self.labels, self.ids = array("q"), array("q"), array("q")
        self.bbox = array("d")
        self.crowd, self.ignored = bytearray(), bytearray()
        self.masks: dict[int, msgspec.Raw] = {}  # by row
        labels = {category.id: label for label, category in enumerate(records.categories)}
        for box in records.annotations:
            self._append(box, image_rows[box.image_id], labels[box.category_id])

    def _append(self, box: Box, image_row: int, label: int) -> None:
        self.image_rows.append(image_row)
        self.labels.append(label)
        self.ids.append(box.id)
        self.bbox.extend(box.bbox)
        self.crowd.append(box.iscrowd == 1)
        self.ignored.append(box.ignore != 0)
        if not _is_empty(box.segmentation):
            self.masks[len(self.ids) - 1] = box.segmentation


def _clipped(
    bbox: Float64[np.ndarray, "n 4"], image_rows: Int64[np.ndarray, " n"], images: Sequence[ImageRecord]
) -> Float32[np.ndarray, "n 4"]:
    """Convert xywh to corners that are cut to their images."""
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float64).reshape(-1, 2)
    clipped = np.empty(bbox.shape, dtype=np.float32)
    for begin in range(0, len(bbox), _AT_ONCE):
        rows = slice(begin, begin + _AT_ONCE)
        corners = from_xywh(np.clip(bbox[rows], -FARTHEST, FARTHEST))
        for side in range(4):
            np.clip(corners[:, side], 0, sizes[image_rows[rows], side % 2], out=corners[:, side])
        clipped[rows] = corners
    return clipped


def _order(image_rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"] | slice:
    """Return the order that puts the boxes of an image together and keeps their order in the file."""
    is_ordered = bool((image_rows[1:] >= image_rows[:-1]).all())
    return slice(None) if is_ordered else np.argsort(image_rows, kind="stable")


def _is_empty(segmentation: msgspec.Raw) -> bool:
    """Return whether there is no mask: the key is missing, null or an empty list. Long texts are not copied."""
    view = memoryview(segmentation)
    return len(view) <= 8 and bytes(view).strip() in (b"null", b"[]", b"[ ]")
