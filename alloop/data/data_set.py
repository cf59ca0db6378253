"""A data set: records that passed the rules, with corners in place of xywh and labels in place of category ids."""

import hashlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Float32, Float64, Int64

from alloop.data.annotation_json import annotation_sha256
from alloop.data.records import Box, Records
from alloop.geometry.boxes import from_xywh
from alloop.values import Annotations, ImageId, ImageRecord, read_only

MIN_SIDE = 1.0  # pixels inside the image; a detector can neither match nor regress a thinner box
FARTHEST = 1e9  # pixels; coordinates beyond are cut to this, so that x + width cannot overflow

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
    annotations: Mapping[ImageId, Annotations]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...] = ()
    unlabeled: frozenset[ImageId] = frozenset()
    groups: Mapping[ImageId, str] = field(default_factory=dict)

    @property
    def boxes(self) -> int:
        """Number of boxes that are paid for."""
        return sum(len(truth) for truth in self.annotations.values())

    def class_counts(self) -> list[int]:
        """Return the number of paid boxes of each class, in label order."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for truth in self.annotations.values():
            counts += np.bincount(truth.labels, minlength=len(counts))
        return [int(count) for count in counts]

    def class_images(self) -> list[int]:
        """Return the number of images that hold each class, in label order."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for truth in self.annotations.values():
            counts[np.unique(truth.labels)] += 1
        return [int(count) for count in counts]

    def fingerprint(self) -> str:
        """Return the sha256 of everything that a run depends on: images, boxes and classes."""
        digest = hashlib.sha256()
        digest.update(repr((self.class_names, self.category_ids)).encode())
        for image_id in sorted(self.images):
            image, truth = self.images[image_id], self.annotations[image_id]
            digest.update(repr((image_id, image.file_name, image.width, image.height)).encode())
            digest.update(annotation_sha256(truth).encode())
        if self.unlabeled:
            digest.update(repr(sorted(self.unlabeled)).encode())
        if self.groups:
            digest.update(repr(sorted(self.groups.items())).encode())
        return digest.hexdigest()


class GroupedAnnotations(Mapping[ImageId, Annotations]):
    """The annotations of all images as a few long arrays, ordered by image; `[image_id]` cuts out one image's.

    This keeps large files small in memory: an object per box would take a gigabyte for a few million boxes.
    """

    def __init__(self, records: Records) -> None:
        """Copy the records into arrays; they must have passed the validation."""
        self._rows = {image.image_id: row for row, image in enumerate(records.images)}
        columns = _Columns(records, self._rows)
        image_rows = np.frombuffer(columns.image_rows, dtype=np.int64)
        order = np.argsort(image_rows, kind="stable")  # within an image, file order is kept
        self._ends = np.cumsum(np.bincount(image_rows, minlength=len(records.images)))
        boxes = _clipped(np.frombuffer(columns.bbox, dtype=np.float64).reshape(-1, 4), image_rows, records.images)
        crowd = np.frombuffer(columns.crowd, dtype=np.bool_)
        trainable = wide_enough(boxes) & ~crowd & ~np.frombuffer(columns.ignored, dtype=np.bool_)
        self._boxes = read_only(boxes[order])
        self._labels = read_only(np.frombuffer(columns.labels, dtype=np.int64)[order])
        self._crowd = read_only(crowd[order])
        self._trainable = read_only(trainable[order])
        self._ids = read_only(np.frombuffer(columns.ids, dtype=np.int64)[order])
        self._masks = [columns.masks[row] for row in order]

    def __getitem__(self, image_id: ImageId) -> Annotations:
        """Return one image's annotations; the arrays are views."""
        row = self._rows[image_id]
        begin, end = int(self._ends[row - 1]) if row else 0, int(self._ends[row])
        return Annotations(
            boxes=self._boxes[begin:end],
            labels=self._labels[begin:end],
            crowd=self._crowd[begin:end],
            trainable=self._trainable[begin:end],
            masks=tuple(self._masks[begin:end]),
            ids=self._ids[begin:end],
        )

    def __iter__(self) -> Iterator[ImageId]:
        """Iterate over the image ids in file order."""
        return iter(self._rows)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._rows)


class _Columns:
    """The fields of all boxes, one growing array per field, filled in a single pass over the records."""

    def __init__(self, records: Records, image_rows: Mapping[ImageId, int]) -> None:
        self.image_rows, self.labels, self.ids = array("q"), array("q"), array("q")
        self.bbox = array("d")
        self.crowd, self.ignored = bytearray(), bytearray()
        self.masks: list[msgspec.Raw | None] = []
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
        self.masks.append(None if _is_empty(box.segmentation) else box.segmentation)


def _clipped(
    bbox: Float64[np.ndarray, "n 4"], image_rows: Int64[np.ndarray, " n"], images: Sequence[ImageRecord]
) -> Float32[np.ndarray, "n 4"]:
    """Convert xywh to corners that are cut to their images. `bbox` is changed in place."""
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float64).reshape(-1, 2)
    np.clip(bbox, -FARTHEST, FARTHEST, out=bbox)
    corners = from_xywh(bbox)
    for side in range(4):
        np.clip(corners[:, side], 0, sizes[image_rows, side % 2], out=corners[:, side])
    return corners.astype(np.float32)


def wide_enough(boxes: Float32[np.ndarray, "n 4"]) -> np.ndarray:
    """Return which boxes have sides of at least `MIN_SIDE`; rounding to float32 may shave a side of exactly that."""
    return np.asarray(((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE * (1 - 1e-4)).all(axis=1))


def _is_empty(segmentation: msgspec.Raw) -> bool:
    """Return whether there is no mask: the key is missing, null or an empty list. Long texts are not copied."""
    view = memoryview(segmentation)
    return len(view) <= 8 and bytes(view).strip() in (b"null", b"[]", b"[ ]")
