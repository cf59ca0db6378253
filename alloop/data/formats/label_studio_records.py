"""From the tasks of an export of Label Studio to records.

A task is labeled when somebody submitted it, also without a box. One that was skipped, that has only a draft or only
predictions, or that nobody opened is unlabeled. Predictions are never taken for annotations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from alloop.data.formats.classes import ClassIds
from alloop.data.formats.format import NO_HINTS, Hints
from alloop.data.formats.label_studio_export import Export, Task, read_export
from alloop.data.formats.label_studio_names import ImageNames
from alloop.data.formats.label_studio_results import (
    UNUSABLE,
    Drawn,
    Size,
    as_written,
    drawn_boxes,
    drawn_on_size,
    unit_problem,
    whole,
)
from alloop.data.formats.label_studio_tasks import order_of
from alloop.data.formats.sidecar import NO_SIDECAR, Sidecar, read_sidecar, refuse_lost_images
from alloop.data.notes import Notes
from alloop.data.records import Box, Category, Records
from alloop.errors import DataError
from alloop.geometry.boxes import xywh_from_corners
from alloop.values import ImageId, ImageRecord

SHOWN = 100  # characters of an address that a message shows
NOT_LABELED = "taken as not labeled"
_NOTHING = Drawn((), {})


@dataclass(frozen=True, slots=True)
class _ReadTask:
    image: ImageRecord
    drawn: Drawn
    is_labeled: bool
    group: str = ""


def read_label_studio(path: Path, hints: Hints = NO_HINTS) -> Records:
    """Read an export, in a file, a folder or a zip: the newest annotation of each task that is no skip.

    Sizes come from the task's data, its regions or its image, ids from `data.alloop_id`. The classes are those of the
    sidecar, of `hints` or of the labeling page; else those that occur, sorted by name.

    Raises:
        DataError: not an export, an image without name or size, a region that is not a labeled box, boxes that are
            plainly not in per cent.
    """
    export, side, notes = read_export(path), read_sidecar(path) or NO_SIDECAR, Notes()
    tasks = list(_TaskReader(export, side, hints, notes).tasks())
    refuse_lost_images(path, side, [task.image for task in tasks])
    if not side.images:  # files of our own are in per cent
        _refuse_other_units(tasks, export.place)
    classes = _classes(side, hints, export, tasks)
    boxes = list(_boxes(tasks, classes, side))
    return Records(
        [task.image for task in tasks],
        classes.categories,
        boxes,
        frozenset(task.image.image_id for task in tasks if not task.is_labeled),
        classes_are_seen=not _listed(side, hints, export),
        notes=notes.listed(),
        groups={task.image.image_id: task.group for task in tasks if task.group},
    )


def _refuse_other_units(tasks: Sequence[_ReadTask], place: Path) -> None:
    boxes = [(corners, task.image) for task in tasks for _, corners in task.drawn.boxes]
    problem = unit_problem((corners, (image.width, image.height)) for corners, image in boxes)
    if problem:
        raise DataError(f"{place}: {problem}")


def _listed(side: Sidecar, hints: Hints, export: Export) -> Sequence[Category]:
    """Return the classes that are listed somewhere; empty where only the boxes tell them."""
    names = hints.classes or export.page.labels
    return side.categories or [Category(number, name) for number, name in enumerate(names)]


def _classes(side: Sidecar, hints: Hints, export: Export, tasks: Sequence[_ReadTask]) -> ClassIds:
    """Return the classes: those that are listed, then those that only occur, sorted by name."""
    classes = ClassIds(_listed(side, hints, export), first=0)
    for name in sorted({label for task in tasks for label, _ in task.drawn.boxes}):
        classes.id_of(name)
    return classes


def _boxes(tasks: Sequence[_ReadTask], classes: ClassIds, side: Sidecar) -> Iterator[Box]:
    number = 0
    for task in tasks:
        image_id = task.image.image_id
        for position, (label, corners) in enumerate(task.drawn.boxes):
            number += 1
            flags, bbox = side.flags(image_id, position), xywh_from_corners(corners)
            yield Box(number, image_id, classes.id_of(label), bbox, flags.iscrowd, ignore=flags.ignore)


class _TaskReader:
    """Reads one task after the other, with what is known beside the export."""

    def __init__(self, export: Export, side: Sidecar, hints: Hints, notes: Notes) -> None:
        self._export, self._hints, self._notes = export, hints, notes
        self._known = {image.image_id: image for image in side.images}
        self._names = ImageNames(hints, export.page.key, notes)
        self._taken = {whole(task["data"].get("alloop_id")) for task in export.tasks}
        self._last = 0

    def tasks(self) -> Iterator[_ReadTask]:
        """Yield each task; one that nobody labeled, and whose image is not there, is left out and noted."""
        for number, task in enumerate(self._export.tasks, start=1):
            data = task["data"]
            name = str(data.get("file_name") or data.get("image") or data.get("alloop_id", "?"))
            where = f"{self._export.place}: task {number} ({name[:SHOWN]})"
            try:
                read = self._read(task, where)
            except UNUSABLE as error:
                msg = f"{where} cannot be used: {error}"
                raise DataError(msg) from error
            if read is not None:
                yield replace(read, group=_text(data.get(self._hints.group_field)))

    def _read(self, task: Task, where: str) -> _ReadTask | None:
        annotation = self._newest(task, where)
        image_id = self._id(task["data"])
        image = self._known.get(image_id) if "alloop_id" in task["data"] else None
        if image is None:
            name = self._names.name_in(task["data"], where)
            found = self._size(task, annotation, name, where)
            if found is None:
                self._notes.add("not labeled, and not among the images; left out", where)
                return None
            image = ImageRecord(image_id, name, *found)
        if annotation is None:
            return _ReadTask(image, _NOTHING, is_labeled=False)
        size = (image.width, image.height)
        drawn = drawn_boxes(annotation["result"], size)
        if image_id in self._known:
            drawn = as_written(drawn, annotation["result"], size)
        for rule, count in drawn.rules.items():
            self._notes.add(rule, where, count)
        self._notes.add("submitted without a box; taken as an image without an object", where, int(not drawn.boxes))
        return _ReadTask(image, drawn, is_labeled=True)

    def _newest(self, task: Task, where: str) -> Mapping[str, Any] | None:
        """Return the newest annotation that was submitted; None, and a note why, where there is none."""
        submitted = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        kept = [annotation for annotation in submitted if annotation.get("result") is not None]
        self._notes.add("several annotations of a task; the newest is taken", where, int(len(kept) > 1))
        if not kept:
            self._notes.add(f"{_why_not_labeled(task, submitted)}; {NOT_LABELED}", where)
        return max(kept, key=order_of, default=None)

    def _id(self, data: Mapping[str, Any]) -> ImageId:
        """Return `alloop_id`, or else the next number that no task has."""
        if data.get("alloop_id") is None:
            self._last += 1
            while self._last in self._taken:
                self._last += 1
            return ImageId(self._last)
        number = whole(data["alloop_id"])
        if number is None:
            msg = f"data.alloop_id: expected a whole number, found {data['alloop_id']!r}"
            raise ValueError(msg)
        return ImageId(number)

    def _size(self, task: Task, annotation: Mapping[str, Any] | None, name: str, where: str) -> Size | None:
        """Return the size of an image; None where an unlabeled one is not among the images.

        Raises:
            DataError: nothing says the size of a labeled one.
            ValueError: the regions were drawn on images of different sizes.
        """
        data = task["data"]
        stated = whole(data.get("width")), whole(data.get("height"))
        if stated[0] is not None and stated[1] is not None:
            return stated[0], stated[1]
        if size := _drawn_on((annotation or {}).get("result") or []):
            return size
        images = self._hints.images
        if annotation is None and (images is None or images.find(name) is None):
            size = _drawn_on([region for other in _others(task) for region in other.get("result") or []])
            if size is not None or images is not None:
                return size
        size = self._hints.size_of(name, where)
        self._notes.add("the export does not say the size of the image; that of the image is taken", where)
        return size


def _text(value: object) -> str:
    """Return the group that a field of the task names; empty where it names none."""
    return str(value) if isinstance(value, str | int) else ""


def _why_not_labeled(task: Task, submitted: Sequence[Mapping[str, Any]]) -> str:
    if submitted:
        return "the result of its annotation is null"
    if task.get("annotations"):
        return "skipped"
    if task.get("drafts"):
        return "has a draft that nobody submitted"
    return "has predictions and no annotation" if task.get("predictions") else "nobody has annotated it"


def _others(task: Task) -> list[Mapping[str, Any]]:
    """Return what else tells the size of an image: skipped annotations, predictions and drafts."""
    others = [*(task.get("annotations") or []), *(task.get("predictions") or []), *(task.get("drafts") or [])]
    return [other for other in others if isinstance(other, dict)]


def _drawn_on(regions: Sequence[Any]) -> Size | None:
    """Return the size of the image that all regions were drawn on; None where none says it.

    Raises:
        ValueError: they were drawn on images of different sizes, or a size is no number.
    """
    known = (drawn_on_size(region) for region in regions if isinstance(region, dict))
    sizes = dict.fromkeys(size for size in known if size is not None)
    if len(sizes) > 1:
        listed = " and ".join(f"{width} x {height}" for width, height in sizes)
        msg = f"its regions were drawn on images of {listed}; one size expected"
        raise ValueError(msg)
    for width, height in sizes:
        if not isinstance(width, int) or not isinstance(height, int):
            msg = f"original_width and original_height: expected whole numbers, found {width!r} and {height!r}"
            raise TypeError(msg)
        return width, height
    return None
