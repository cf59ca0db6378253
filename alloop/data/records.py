"""The records that every annotation format is read into, and the rules they must pass.

Four verdicts on a record, in falling severity:

- *refused*: the file cannot be used until a person mends it (ambiguous ids, numbers that are not
  finite, unknown images or categories).
- *skipped*: paid for, since a person drew it, but neither trained on nor evaluated (no area, less
  than one pixel wide or high inside the image, marked `ignore`).
- *clipped*: reaches over the edge of its image and is cut to it.
- *noted*: used as it is, worth knowing (a repeated annotation id, one file under two image ids).

Crowd records are paid, never trained on, and are regions to ignore in evaluation, as in COCO.
"""

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from alloop.errors import DataError
from alloop.values import Annotations, ImageId, ImageRecord, read_only

MIN_SIDE = 1.0  # pixels inside the image; anything thinner cannot be matched or regressed
MAX_SIDE = 100_000  # pixels; a larger declared image is a typing error
CLIP_TOLERANCE = 1e-3  # pixels; rounding of the format is not worth a message
INT64 = range(-(2**63), 2**63)

Verdict = Literal["refused", "skipped", "clipped", "noted"]


class Image(msgspec.Struct, gc=False):
    """An image as the format files name it."""

    id: int
    file_name: str
    width: int
    height: int


class Category(msgspec.Struct, gc=False):
    """A class as the format files name it; ids may be sparse and may be 0."""

    id: int
    name: str


class Box(msgspec.Struct, gc=False):
    """One annotation record. `bbox` is `(x, y, width, height)` in pixels."""

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    area: float | None = None
    segmentation: msgspec.Raw = msgspec.Raw(b"null")
    ignore: int = 0


class Records(msgspec.Struct):
    """A whole annotation file."""

    images: list[Image]
    categories: list[Category]
    annotations: Sequence[Box] = []


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding: the verdict, where (file, key, id), and the reason."""

    verdict: Verdict
    where: str
    reason: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.verdict}: {self.where}: {self.reason}"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Validated records: images by id, their annotations, the classes, and what was found."""

    name: str
    images: Mapping[ImageId, ImageRecord]
    annotations: Mapping[ImageId, Annotations]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def boxes(self) -> int:
        """Number of paid boxes."""
        return sum(len(a) for a in self.annotations.values())

    def class_counts(self) -> list[int]:
        """Paid boxes of each class, in label order."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for truth in self.annotations.values():
            counts += np.bincount(truth.labels, minlength=len(counts))
        return [int(count) for count in counts]

    def class_images(self) -> list[int]:
        """Images that hold each class, in label order."""
        counts = np.zeros(len(self.class_names), dtype=np.int64)
        for truth in self.annotations.values():
            counts[np.unique(truth.labels)] += 1
        return [int(count) for count in counts]

    def fingerprint(self) -> str:
        """sha256 of everything that a run depends on: images, boxes, classes."""
        digest = hashlib.sha256()
        digest.update(repr((self.class_names, self.category_ids)).encode())
        for image_id in sorted(self.images):
            record, truth = self.images[image_id], self.annotations[image_id]
            digest.update(repr((image_id, record.file_name, record.width, record.height)).encode())
            digest.update(annotation_sha256(truth).encode())
        return digest.hexdigest()


def annotation_sha256(truth: Annotations) -> str:
    """sha256 of one image's annotations: what a charge is for."""
    digest = hashlib.sha256()
    for column in (truth.boxes, truth.labels, truth.crowd, truth.trainable):
        digest.update(column.tobytes())
    for mask in truth.masks:
        digest.update(b"\0" if mask is None else mask)
    return digest.hexdigest()


def annotations_to_json(truth: Annotations) -> str:
    """Annotations as the text that a charge stores; every number comes back exactly."""
    return json.dumps(
        {
            "boxes": truth.boxes.tolist(),
            "labels": truth.labels.tolist(),
            "crowd": truth.crowd.tolist(),
            "trainable": truth.trainable.tolist(),
            "masks": [None if mask is None else bytes(mask).decode() for mask in truth.masks],
        },
        allow_nan=False,
        sort_keys=True,
    )


def annotations_from_json(text: str) -> Annotations:
    """The other way; raises ValueError, KeyError or TypeError on anything else."""
    tree = json.loads(text)
    return Annotations(
        boxes=np.array(tree["boxes"], dtype=np.float32).reshape(-1, 4),
        labels=tree["labels"],
        crowd=tree["crowd"],
        trainable=tree["trainable"],
        masks=tuple(None if mask is None else mask.encode() for mask in tree["masks"]),
    )


def validate(records: Records, name: str) -> DataSet:
    """Apply the rules; nothing is dropped, so `DataSet.boxes` equals the number of records.

    Raises:
        DataError: when any record is refused; the message lists the first ones.
    """
    problems = find_problems(records, name)
    refused = [problem for problem in problems if problem.verdict == "refused"]
    if refused:
        listed = "\n  ".join(str(problem) for problem in refused[:10])
        more = f"\n  and {len(refused) - 10} more" if len(refused) > 10 else ""
        msg = f"{name}: cannot be used until these records are mended:\n  {listed}{more}"
        raise DataError(msg)
    images = {ImageId(i.id): ImageRecord(ImageId(i.id), i.file_name, i.width, i.height) for i in records.images}
    return DataSet(
        name=name,
        images=images,
        annotations=_Grouped(records, images),
        class_names=tuple(c.name for c in records.categories),
        category_ids=tuple(c.id for c in records.categories),
        problems=tuple(problems),
    )


def find_problems(records: Records, name: str) -> list[Problem]:
    """Every finding in a file, in file order."""
    return [*_image_problems(records, name), *_category_problems(records, name), *_box_problems(records, name)]


def _repeated(values: list[int]) -> list[int]:
    if len(set(values)) == len(values):  # the usual case, and a set is half the size of a counter
        return []
    return [value for value, count in Counter(values).items() if count > 1]


def _image_problems(records: Records, name: str) -> list[Problem]:
    found = [
        Problem("refused", f"{name}: images: id {i}", "two images share this id; give each its own")
        for i in _repeated([image.id for image in records.images])
    ]
    for image in records.images:
        where = f"{name}: images: id {image.id}"
        if image.id not in INT64:
            found.append(Problem("refused", where, "the id does not fit into 64 bits"))
        if not (0 < image.width <= MAX_SIDE and 0 < image.height <= MAX_SIDE):
            reason = f"expected a size of 1 to {MAX_SIDE} pixels, found {image.width} x {image.height}"
            found.append(Problem("refused", where, reason))
        if not image.file_name:
            found.append(Problem("refused", where, "file_name is empty"))
    names = Counter(image.file_name for image in records.images)
    found += [
        Problem("noted", f"{name}: images: file_name {file!r}", f"{count} images share this file")
        for file, count in names.items()
        if count > 1 and file
    ]
    return found


def _category_problems(records: Records, name: str) -> list[Problem]:
    if not records.categories:
        return [Problem("refused", f"{name}: categories", "the list is empty; a detector needs a class")]
    found = [
        Problem("refused", f"{name}: categories: id {i}", "two categories share this id")
        for i in _repeated([category.id for category in records.categories])
    ]
    names = Counter(category.name for category in records.categories)
    found += [
        Problem("refused", f"{name}: categories: name {text!r}", f"{count} categories share this name")
        for text, count in names.items()
        if count > 1
    ]
    return found


def _box_problems(records: Records, name: str) -> list[Problem]:
    found: list[Problem] = [
        Problem("noted", f"{name}: annotations: id {i}", "several records share this id; each counts as a box")
        for i in _repeated([box.id for box in records.annotations])
    ]
    sizes = {image.id: (image.width, image.height) for image in records.images}
    categories = {category.id for category in records.categories}
    for box in records.annotations:
        where = f"{name}: annotations: id {box.id}"
        if box.image_id not in sizes:
            found.append(Problem("refused", where, f"image_id {box.image_id} is not among the images"))
        elif not all(abs(number) < float("inf") for number in box.bbox):
            reason = f"bbox {list(box.bbox)} (image {box.image_id}) holds a number that is not finite"
            found.append(Problem("refused", where, reason))
        elif geometry := _geometry_problem(box, *sizes[box.image_id]):
            found.append(Problem(geometry[0], where, geometry[1]))
        if box.category_id not in categories:
            found.append(Problem("refused", where, f"category_id {box.category_id} is not among the categories"))
        if box.id not in INT64:
            found.append(Problem("refused", where, "the id does not fit into 64 bits"))
        if box.iscrowd not in (0, 1):
            found.append(Problem("refused", where, f"iscrowd: expected 0 or 1, found {box.iscrowd}"))
        if box.ignore:
            found.append(Problem("skipped", where, "ignore is set; paid, not trained on"))
    return found


def _geometry_problem(box: Box, width: int, height: int) -> tuple[Verdict, str] | None:
    x, y, w, h = box.bbox
    inside_w = min(x + w, width) - max(x, 0)
    inside_h = min(y + h, height) - max(y, 0)
    if inside_w < MIN_SIDE or inside_h < MIN_SIDE:
        text = f"bbox {list(box.bbox)} is less than {MIN_SIDE:g} px wide or high inside image {box.image_id}"
        return "skipped", f"{text} ({width} x {height}); paid, not trained on"
    if inside_w < w - CLIP_TOLERANCE or inside_h < h - CLIP_TOLERANCE:
        return "clipped", f"bbox {list(box.bbox)} reaches over the edge of image {box.image_id} ({width} x {height})"
    return None


class _Grouped(Mapping[ImageId, Annotations]):
    """The annotations of all images as a few long arrays, ordered by image; one image's are cut out when asked for.

    Large files stay small in memory this way: an object for each of a million boxes would not.
    """

    def __init__(self, records: Records, images: Mapping[ImageId, ImageRecord]) -> None:
        of_category = {category.id: label for label, category in enumerate(records.categories)}
        self._rows = {image_id: row for row, image_id in enumerate(images)}
        image, label, ids, corners = array("q"), array("q"), array("q"), array("d")
        crowd, ignored = bytearray(), bytearray()
        masks: list[msgspec.Raw | None] = []
        for box in records.annotations:
            image.append(self._rows[ImageId(box.image_id)])
            label.append(of_category[box.category_id])
            ids.append(box.id)
            corners.extend(box.bbox)
            crowd.append(box.iscrowd == 1)
            ignored.append(box.ignore != 0)
            masks.append(None if _is_empty(box.segmentation) else box.segmentation)
        of_image = np.frombuffer(image, dtype=np.int64)
        order = np.argsort(of_image, kind="stable")  # in an image, in file order
        self._ends = np.cumsum(np.bincount(of_image, minlength=len(images)))
        boxes = _clipped(np.frombuffer(corners, dtype=np.float64).reshape(-1, 4), of_image, images)
        # float32 rounding may shave a side of exactly one pixel
        wide = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE * (1 - 1e-4)).all(axis=1)
        is_crowd = np.frombuffer(crowd, dtype=np.bool_)
        trainable = wide & ~is_crowd & ~np.frombuffer(ignored, dtype=np.bool_)
        labels, names = np.frombuffer(label, dtype=np.int64), np.frombuffer(ids, dtype=np.int64)
        self._boxes, self._labels, self._crowd, self._trainable, self._ids = (
            read_only(column[order]) for column in (boxes, labels, is_crowd, trainable, names)
        )
        self._masks = [masks[row] for row in order]

    def __getitem__(self, image_id: ImageId) -> Annotations:
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
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _clipped(corners: np.ndarray, image: np.ndarray, images: Mapping[ImageId, ImageRecord]) -> np.ndarray:
    """Boxes `[n, 4]` in xywh, changed in place, as float32 xyxy, cut to their images."""
    sizes = np.array([(i.width, i.height) for i in images.values()], dtype=np.float64).reshape(-1, 2)
    # far outside is far outside: the limit only keeps x + width from overflowing
    np.clip(corners, -1e9, 1e9, out=corners)
    corners[:, 2:] += corners[:, :2]
    for side in range(4):
        np.clip(corners[:, side], 0, sizes[image, side % 2], out=corners[:, side])
    return corners.astype(np.float32)


def _is_empty(segmentation: msgspec.Raw) -> bool:
    """No mask: the key is missing, null or an empty list. The text itself is not copied."""
    view = memoryview(segmentation)
    return len(view) <= 8 and bytes(view).strip() in (b"null", b"[]", b"[ ]")
