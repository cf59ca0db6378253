"""People behind a folder: each round's tasks are written into it, their answers are read from it.

FOLDER/round_000/README.txt      what to do
FOLDER/round_000/images/         the images to annotate
FOLDER/round_000/tasks...        the same in the chosen format, with the detector's boxes
FOLDER/round_000/answers...      what comes back: answers.json, .xml or .zip, or a folder of that name
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alloop.data.convert import files_of
from alloop.data.formats import cvat, label_studio
from alloop.data.formats.coco import read_coco, write_coco
from alloop.data.formats.voc import voc_file
from alloop.data.formats.yolo import yolo_boxes
from alloop.data.images import FolderImages, image_path
from alloop.data.records import Box, Category, Image, Records
from alloop.errors import ConfigError
from alloop.files import atomic_write
from alloop.oracles.answers import Reading, answer_of_boxes, answer_of_task, answers_of_records
from alloop.oracles.oracle import Answer, Task
from alloop.values import ImageId, ImageRecord

ANSWERS = ("answers", "answers.json", "answers.xml", "answers.zip")
_HOW = {
    "coco": "Write answers.json: COCO, with every finished image in its list of images, also the empty ones.",
    "voc": "Write answers/Annotations/NAME.xml for every finished image, without an object for an empty one.",
    "yolo": "Write answers/labels/NAME.txt for every finished image, an empty file for an empty one.",
    "cvat": "Export 'CVAT for images 1.1' as answers.zip or answers.xml. Tag a finished image with alloop_done and one "
    "that should be set aside with alloop_skip: the file does not tell an empty image from an untouched one.",
    "label_studio": "Export JSON as answers.json. Submitted tasks are done, skipped ones are set aside.",
}


@dataclass(frozen=True)
class FolderPeople:
    """Where the folder is, which format it speaks, and where the images come from."""

    folder: Path
    format: str
    images: FolderImages
    reading: Reading

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Write what is not there yet."""
        place = self._place(round_)
        for task in tasks:
            name = task.image.file_name
            target = image_path(place / "images", name)
            if not target.is_file():
                atomic_write(target, self.images.stored(task.image.image_id))
        for path, data in self._task_files(place, tasks).items():
            if not path.is_file():
                atomic_write(path, data)
        classes = ", ".join(self.reading.class_names)
        text = f"{len(tasks)} images to annotate with boxes of: {classes}.\n{_HOW[self.format]}\n"
        atomic_write(place / "README.txt", text.encode())
        return f"{place} ({_HOW[self.format]})"

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        """Read the answers as they are now; an image that they do not name is still to do."""
        found = [path for name in ANSWERS if (path := self._place(round_) / name).exists()]
        if len(found) > 1:
            msg = f"{found[0].parent}: found {' and '.join(p.name for p in found)}; keep the one that holds the answers"
            raise ConfigError(msg)
        todo = {image.image_id: Answer("todo") for image in images}
        return todo | (self._read(found[0], images) if found else {})

    def _place(self, round_: int) -> Path:
        return self.folder / f"round_{round_:03d}"

    def _read(self, path: Path, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        names = self.reading.class_names
        if self.format == "coco":
            return answers_of_records(read_coco(path), images, names)
        if self.format == "cvat":
            return self._tagged(path, images)
        if self.format == "label_studio":
            by_id = {int(image.image_id): image for image in images}
            tasks = [t for t in label_studio.read_tasks(path) if t["data"].get("alloop_id") in by_id]
            read = {t["data"]["alloop_id"]: t for t in tasks}
            return {by_id[i].image_id: answer_of_task(task, by_id[i], self.reading) for i, task in read.items()}
        return self._by_file(path, images)

    def _tagged(self, path: Path, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        tags = cvat.cvat_tags(path)
        short = {name.rpartition("/")[2]: found for name, found in tags.items()}
        answers = answers_of_records(cvat.read_cvat(path), images, self.reading.class_names)
        for image in images:
            found = tags.get(image.file_name, short.get(image.file_name.rpartition("/")[2], set()))
            if cvat.SKIP in found:
                answers[image.image_id] = Answer("skipped")
            elif cvat.DONE not in found and image.image_id in answers:
                boxes = answers[image.image_id].annotations
                answers[image.image_id] = Answer("draft" if boxes is not None and len(boxes) else "todo")
        return answers

    def _by_file(self, path: Path, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        found = {}
        for image in images:
            inner, suffix = ("Annotations", ".xml") if self.format == "voc" else ("labels", ".txt")
            file = path / inner / Path(image.file_name).with_suffix(suffix)
            if not file.is_file():
                continue
            if self.format == "voc":
                size, drawn = voc_file(file)
                if size != (image.width, image.height):
                    reason = f"drawn on {size[0]} x {size[1]} pixels, the pool says {image.width} x {image.height}"
                    found[image.image_id] = Answer("invalid", remark=reason)
                    continue
            else:
                shape = Image(int(image.image_id), image.file_name, image.width, image.height)
                drawn = yolo_boxes(file, shape, self.reading.class_names)
            found[image.image_id] = answer_of_boxes(image, drawn, self.reading.class_names)
        return found

    def _task_files(self, place: Path, tasks: Sequence[Task]) -> dict[Path, bytes]:
        records = records_of(tasks, self.reading.class_names)
        if self.format == "coco":
            return {place / "tasks.json": write_coco(records)}
        if self.format == "cvat":
            return {place / "tasks.xml": cvat.cvat_xml(records)}
        if self.format == "label_studio":
            page = label_studio.label_config(self.reading.class_names).encode()
            asked = [task_tree(task, self.reading.class_names, f"round {place.name}") for task in tasks]
            text = json.dumps(asked, allow_nan=False).encode()
            return {place / "tasks.json": text, place / label_studio.CONFIG: page}
        return {p: d for p, d in files_of(records, place / "tasks", self.format).items() if p.suffix != ".json"}


def records_of(tasks: Sequence[Task], class_names: Sequence[str]) -> Records:
    """Tasks as an annotation file that holds the boxes to be shown."""
    images = [Image(int(t.image.image_id), t.image.file_name, t.image.width, t.image.height) for t in tasks]
    boxes: list[Box] = []
    for task in tasks:
        for (x1, y1, x2, y2), label in zip(*_shown(task), strict=True):
            bbox = (float(x1), float(y1), float(x2 - x1), float(y2 - y1))
            boxes.append(Box(len(boxes) + 1, int(task.image.image_id), int(label), bbox, 0, None, msgspec.Raw(b"null")))
    return Records(images, [Category(k, name) for k, name in enumerate(class_names)], boxes)


def _shown(task: Task) -> tuple[Sequence[Sequence[float]], Sequence[int]]:
    return ([], []) if task.shown is None else (task.shown.boxes.tolist(), task.shown.labels.tolist())


def task_tree(task: Task, class_names: Sequence[str], model_version: str) -> dict[str, object]:
    """A task with its prediction as Label Studio imports it."""
    image = task.image
    data = label_studio.task_data(Image(int(image.image_id), image.file_name, image.width, image.height))
    if task.shown is None:
        return {"data": data}
    size, scores = (image.width, image.height), task.shown.scores.tolist()
    boxes = zip(*_shown(task), scores, strict=True)
    result = [
        label_studio.region((x1, y1, x2, y2), class_names[label], size, k, score)
        for k, ((x1, y1, x2, y2), label, score) in enumerate(boxes)
    ]
    mean = sum(scores) / len(scores) if scores else 0.0
    return {"data": data, "predictions": [{"model_version": model_version, "score": mean, "result": result}]}
