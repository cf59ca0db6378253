"""The rules that annotation records must pass before they become a data set.

A record gets one of four verdicts, in falling severity:

- *refused*: the file cannot be used until a person mends it (ambiguous ids, numbers that are not
  finite, unknown images or categories, one file under two image ids).
- *skipped*: paid for, since a person drew it, but not trained on. No area, or less than one pixel wide or high inside
  the image: AP leaves it out. Marked `ignore` (`difficult` in Pascal VOC): AP counts it neither as found nor as missed.
- *clipped*: reaches over the edge of its image and is cut to it.
- *noted*: used, but worth knowing (what was read leniently, a repeated annotation id, a box that stands twice).

Numbers that are plainly in another unit are refused as a whole: fractions or corners in place of `(x, y, width,
height)` in pixels would otherwise be paid for and train nothing, or the wrong thing.

Crowd records are paid for and never trained on; evaluation ignores their regions, as in COCO.
"""

import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

from alloop.data.data_set import DataSet, Problem, Verdict
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.notes import Note
from alloop.data.records import Box, Records
from alloop.data.units import unit_problem
from alloop.errors import DataError
from alloop.geometry.boxes import MIN_SIDE, corners_from_xywh
from alloop.values import ImageRecord

MAX_SIDE = 100_000  # pixels; a larger declared image is a typing error
CLIP_TOLERANCE = 1e-3  # pixels; what the rounding of a format shaves off is not worth a message
INT64 = range(-(2**63), 2**63)
_LEAST, _MOST = INT64[0], INT64[-1]
LISTED = 10  # refused records that the error message lists

T = TypeVar("T", int, str)
Finding = tuple[Verdict, str]  # the verdict and the reason


def validate(records: Records, name: str) -> DataSet:
    """Check records and turn them into a data set; `DataSet.boxes` equals the number of records.

    Args:
        records: what a format has read.
        name: how messages call the file.

    Raises:
        DataError: when any record is refused; the message lists the first ones.
    """
    return data_set_of(records, name, find_problems(records, name))


def data_set_of(records: Records, name: str, problems: Sequence[Problem]) -> DataSet:
    """Turn records into a data set.

    Args:
        records: what a format has read.
        name: how messages call the file.
        problems: what `find_problems` found in them.

    Raises:
        DataError: when any record is refused; the message lists the first ones.
    """
    _raise_refused(problems, name)
    images = {image.image_id: image for image in records.images}
    return DataSet(
        name=name,
        images=images,
        annotations=GroupedAnnotations.of_records(records),
        class_names=tuple(category.name for category in records.categories),
        category_ids=tuple(category.id for category in records.categories),
        problems=tuple(problems),
        unlabeled=records.unlabeled,
        groups=records.groups,
    )


def refuse_unusable(records: Records, name: str) -> list[Problem]:
    """Return every finding about a file, none of which makes it unusable.

    Raises:
        DataError: when any record is refused; the message lists the first ones.
    """
    problems = find_problems(records, name)
    _raise_refused(problems, name)
    return problems


def find_problems(records: Records, name: str) -> list[Problem]:
    """Return every finding about a file: notes, images, categories, then annotations, each in file order."""
    return [
        *(
            Problem("noted", f"{name}: {note.first}" if name not in note.first else note.first, _counted(note))
            for note in records.notes
        ),
        *_image_problems(records, name),
        *_category_problems(records, name),
        *_box_problems(records, name),
    ]


def _raise_refused(problems: Sequence[Problem], name: str) -> None:
    refused = [problem for problem in problems if problem.verdict == "refused"]
    if refused:
        listed = "\n  ".join(str(problem) for problem in refused[:LISTED])
        more = f"\n  and {len(refused) - LISTED} more" if len(refused) > LISTED else ""
        msg = f"{name}: cannot be used until these records are mended:\n  {listed}{more}"
        raise DataError(msg)


def _counted(note: Note) -> str:
    return note.rule if note.count == 1 else f"{note.rule} ({note.count} times)"


def _repeated(values: list[T]) -> list[T]:
    if all(before < after for before, after in pairwise(values)):  # most files; a set of a million takes memory
        return []
    if len(set(values)) == len(values):  # and a counter twice as much
        return []
    return [value for value, count in Counter(values).items() if count > 1]


def _image_problems(records: Records, name: str) -> Iterator[Problem]:
    for image_id in _repeated([image.image_id for image in records.images]):
        where = f"{name}: images: id {image_id}"
        yield Problem("refused", where, "this id stands twice: two images share this id; give each its own")
    for image in records.images:
        for verdict, reason in _image_findings(image):
            yield Problem(verdict, f"{name}: images: id {image.image_id}", reason)
    for image_id in sorted(records.unlabeled - {image.image_id for image in records.images}):
        yield Problem("refused", f"{name}: unlabeled: id {image_id}", "it is not among the images")
    for file in _repeated([image.file_name for image in records.images if image.file_name]):
        ids = ", ".join(str(image.image_id) for image in records.images if image.file_name == file)
        yield Problem("refused", f"{name}: images: file_name {file!r}", f"ids {ids} share this file; keep one of them")


def _image_findings(image: ImageRecord) -> Iterator[Finding]:
    if image.image_id not in INT64:
        yield "refused", "the id does not fit into 64 bits"
    if not (0 < image.width <= MAX_SIDE and 0 < image.height <= MAX_SIDE):
        yield "refused", f"expected a size of 1 to {MAX_SIDE} pixels, found {image.width} x {image.height}"
    if not image.file_name:
        yield "refused", "file_name is empty"


def _category_problems(records: Records, name: str) -> Iterator[Problem]:
    if not records.categories:
        yield Problem("refused", f"{name}: categories", "the list is empty; a detector needs a class")
    for number in _repeated([category.id for category in records.categories]):
        yield Problem("refused", f"{name}: categories: id {number}", "two categories share this id")
    names = Counter(category.name for category in records.categories)
    for text, count in names.items():
        if count > 1:
            yield Problem("refused", f"{name}: categories: name {text!r}", f"{count} categories share this name")


def _box_problems(records: Records, name: str) -> Iterator[Problem]:
    for number in _repeated([box.id for box in records.annotations]):
        where = f"{name}: annotations: id {number}"
        yield Problem("noted", where, "several records share this id; each counts as a box")
    images = {image.image_id: image for image in records.images}
    if unit := unit_problem(records.annotations, images):
        yield Problem("refused", f"{name}: annotations", unit)
    categories = {category.id for category in records.categories}
    keys = array("q")  # hashes: a million boxes, or a set of their hashes, would fill the memory
    for box in records.annotations:
        image = images.get(box.image_id)
        if not (image and _is_plainly_inside(box, image) and box.category_id in categories):
            for verdict, reason in _box_findings(box, image, categories):
                yield Problem(verdict, f"{name}: annotations: id {box.id}", reason)
        if box.image_id in records.unlabeled:
            reason = f"image {box.image_id} is listed as unlabeled and has this box; take it off that list"
            yield Problem("refused", f"{name}: annotations: id {box.id}", reason)
        keys.append(hash((box.image_id, box.category_id, box.bbox)))
    twice = repetitions(np.frombuffer(keys, dtype=np.int64))
    if len(twice):
        first = records.annotations[int(twice[0])]
        reason = f"{len(twice)} boxes stand twice, with the same image, class and place; each of them is paid"
        yield Problem("noted", f"{name}: annotations: id {first.id}", reason)


def repetitions(values: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " m"]:
    """Return the rows whose value stands in an earlier row already, ascending."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    return np.sort(order[1:][ordered[1:] == ordered[:-1]])


def _is_plainly_inside(box: Box, image: ImageRecord) -> bool:
    """Return whether a box is surely one about which `_box_findings` finds nothing but perhaps its category.

    Nearly all boxes are, and this takes a fifth of the time. A box within a pixel of a limit is looked at closely.
    """
    x, y, width, height = box.bbox
    return (
        x >= 0
        and y >= 0
        and width >= MIN_SIDE + 1
        and height >= MIN_SIDE + 1
        and x + width <= image.width
        and y + height <= image.height
        and box.iscrowd in {0, 1}
        and not box.ignore
        and _LEAST <= box.id <= _MOST
    )


def _box_findings(box: Box, image: ImageRecord | None, categories: Collection[int]) -> Iterator[Finding]:
    if image is None:
        yield "refused", f"image_id {box.image_id} is not among the images"
    elif finding := _geometry_finding(box, image):
        yield finding
    if box.category_id not in categories:
        yield "refused", f"category_id {box.category_id} is not among the categories"
    if box.id not in INT64:
        yield "refused", "the id does not fit into 64 bits"
    if box.iscrowd not in (0, 1):
        yield "refused", f"iscrowd: expected 0 or 1, found {box.iscrowd}"
    if box.ignore:
        yield "skipped", "ignore is set; paid, not trained on, and AP counts it neither as found nor as missed"


def _geometry_finding(box: Box, image: ImageRecord) -> Finding | None:
    if not all(abs(number) < math.inf for number in box.bbox):
        return "refused", f"bbox {list(box.bbox)} (image {box.image_id}) holds a number that is not finite"
    x1, y1, x2, y2 = corners_from_xywh(box.bbox)
    width, height = box.bbox[2:]
    inside_width = min(x2, image.width) - max(x1, 0)
    inside_height = min(y2, image.height) - max(y1, 0)
    if inside_width < MIN_SIDE or inside_height < MIN_SIDE:
        text = f"bbox {list(box.bbox)} is less than {MIN_SIDE:g} px wide or high inside {_size(image)}"
        return "skipped", f"{text}; paid, not trained on"
    if inside_width < width - CLIP_TOLERANCE or inside_height < height - CLIP_TOLERANCE:
        return "clipped", f"bbox {list(box.bbox)} reaches over the edge of {_size(image)}"
    return None


def _size(image: ImageRecord) -> str:
    return f"image {image.image_id} ({image.width} x {image.height})"
