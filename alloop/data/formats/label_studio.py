"""Label Studio's JSON export, and the folder that holds it as `tasks.json` beside the page of the project."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from alloop.data.formats.format import Format, Hints, folder_of_file
from alloop.data.formats.label_studio_export import NAME, Task, looks_like_export, read_export
from alloop.data.formats.label_studio_names import ImageNames
from alloop.data.formats.label_studio_page import CONFIG, label_config
from alloop.data.formats.label_studio_records import read_label_studio
from alloop.data.formats.label_studio_results import UNUSABLE, whole
from alloop.data.formats.label_studio_tasks import regions_by_image, submissions_of_task, task_data, task_trees
from alloop.data.formats.sidecar import sidecar_file
from alloop.data.image_index import index_of_records, match_names
from alloop.data.notes import Notes
from alloop.data.records import Records
from alloop.data.submissions import ImageSubmissions, Submissions
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord


def _files(records: Records, target: Path) -> dict[Path, bytes]:
    """Return one annotated task per image, as an export has them; empty images have an empty annotation."""
    regions = regions_by_image(records, {})
    tasks: list[dict[str, object]] = []
    for image in records.images:
        annotation = {"result": regions[image.image_id], "was_cancelled": False}
        is_labeled = image.image_id not in records.unlabeled
        tasks.append({"data": task_data(image), "annotations": [annotation] if is_labeled else []})
    return _with_page(target, tasks, records) | sidecar_file(records, target)


def _with_page(folder: Path, tasks: Sequence[Mapping[str, object]], records: Records) -> dict[Path, bytes]:
    page = label_config([category.name for category in records.categories])
    return {folder / NAME: json.dumps(tasks, allow_nan=False).encode(), folder / CONFIG: page.encode()}


def _task_files(folder: Path, records: Records, scores: Mapping[ImageId, Sequence[float]]) -> dict[Path, bytes]:
    return _with_page(folder, task_trees(records, scores, f"round {folder.name}"), records)


def _submissions(path: Path, images: Sequence[ImageRecord], _class_names: Sequence[str]) -> Submissions:
    """Return what was submitted for each image, by `data.alloop_id`, or by the name of the image where it is missing.

    Several tasks of one image count as one task with all their annotations.
    """
    export, notes = read_export(path), Notes()
    names = ImageNames(Hints(index_of_records(images, str(path))), export.page.key, notes)
    by_id = {image.image_id: image for image in images}
    tasks: dict[ImageId, list[Task]] = {}
    named: dict[str, list[Task]] = {}
    unknown: list[str] = []
    for task in export.tasks:
        number = whole(task["data"].get("alloop_id"))
        if number is None:
            named.setdefault(_name(task, names, path), []).append(task)
        elif number in by_id:
            tasks.setdefault(ImageId(number), []).append(task)
        else:
            unknown.append(str(task["data"].get("file_name") or number))
    matches = match_names(named, images, str(path))
    for name, image in matches.by_name.items():
        tasks.setdefault(image.image_id, []).extend(named[name])
    submissions = {image_id: _submissions_of(own, by_id[image_id], path) for image_id, own in tasks.items()}
    return Submissions(submissions, (*unknown, *matches.unknown), (*notes.listed(), *matches.notes))


def _name(task: Task, names: ImageNames, path: Path) -> str:
    try:
        return names.name_in(task["data"], str(path))
    except UNUSABLE as error:
        msg = f"{path}: task {task.get('id', '?')} cannot be used: {error}"
        raise DataError(msg) from error


def _submissions_of(tasks: Sequence[Task], image: ImageRecord, path: Path) -> ImageSubmissions:
    try:
        of_tasks = [submissions_of_task(task, (image.width, image.height)) for task in tasks]
    except UNUSABLE as error:
        msg = f"{path}: the task of image {image.image_id} cannot be used: {error}"
        raise DataError(msg) from error
    submissions = tuple(submission for given in of_tasks for submission in given.submissions)
    return ImageSubmissions(submissions, any(given.has_draft for given in of_tasks))


LABEL_STUDIO = Format(
    title="Label Studio JSON export, as file, zip or folder",
    how_to_answer="Export JSON as answers.json. Submitted tasks are done, skipped ones are set aside.",
    read=read_label_studio,
    files=_files,
    guess=looks_like_export,
    image_folder=folder_of_file,
    task_files=_task_files,
    submissions=_submissions,
)
