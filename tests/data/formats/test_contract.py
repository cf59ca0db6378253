"""Every format of the table keeps the published contract, and each check of the contract is needed."""

import dataclasses
from pathlib import Path

import msgspec
import pytest

from alloop.data.formats.coco import COCO
from alloop.data.formats.format import NO_HINTS
from alloop.data.formats.table import FORMATS, annotation_format
from alloop.data.formats.voc import VOC
from alloop.data.image_index import index_of_folder
from alloop.data.submissions import ImageSubmissions, Submission, Submissions
from alloop.errors import DataError
from alloop.testing import format_checks
from alloop.testing.formats import example_records


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("check", format_checks(), ids=lambda check: check.__name__)
def test_every_format_keeps_the_contract(name, check, tmp_path):
    check(annotation_format(name, "test"), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_images_in_the_folder_that_a_format_names_are_found_where_it_looks_for_them(name, tmp_path):
    format_, records, target = annotation_format(name, "test"), example_records(), tmp_path / "out" / "target"
    for path, data in format_.files(records, target).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    place = (target if target.is_dir() else target.parent) / format_.images
    for image in records.images:
        (place / image.file_name).parent.mkdir(parents=True, exist_ok=True)
        (place / image.file_name).touch()
    index = index_of_folder(format_.image_folder(target))
    assert all(index.find(image.file_name) is not None for image in records.images)


def changed(records, **columns):
    """A copy of records with other images, categories or annotations."""
    return msgspec.structs.replace(records, **columns)


def boxes_changed(change):
    """COCO whose reader changes every box."""

    def read(path, hints=NO_HINTS):
        records = COCO.read(path, hints)
        boxes = list(records.annotations)
        for box in boxes:
            change(box)
        return changed(records, annotations=boxes)

    return dataclasses.replace(COCO, read=read)


def read_changed(change):
    return dataclasses.replace(COCO, read=lambda path, hints=NO_HINTS: change(COCO.read(path, hints)))


def shifted(box):
    box.bbox = (box.bbox[0] + 1, *box.bbox[1:])


def nothing_ignored(box):
    box.ignore = 0


def no_crowd(box):
    box.iscrowd = 0


def without_empty_images(records):
    kept = {box.image_id for box in records.annotations} | records.unlabeled
    return changed(records, images=[image for image in records.images if image.image_id in kept])


def renumbered(records):
    numbers = {image.image_id: number for number, image in enumerate(records.images, start=1)}
    boxes = list(records.annotations)
    for box in boxes:
        box.image_id = numbers[box.image_id]
    images = [
        type(image)(numbers[image.image_id], image.file_name, image.width, image.height) for image in records.images
    ]
    unlabeled = frozenset(numbers[image_id] for image_id in records.unlabeled)
    return changed(records, images=images, annotations=boxes, unlabeled=unlabeled)


def sorted_classes(records):
    return changed(records, categories=sorted(records.categories, key=lambda category: category.name))


def files_that_drop_twins(records, target):
    """VOC that writes the last of two images with the same stem over the first, and forgets the first."""
    by_stem = {Path(image.file_name).with_suffix(""): image for image in records.images}
    return VOC.files(changed(records, images=list(by_stem.values())), target)


def files_that_change_the_records(records, target):
    files = COCO.files(records, target)
    records.categories.reverse()
    return files


def files_beside(records, target):
    return COCO.files(records, target) | {target.parent / "index.txt": b""}


def raising(function, error):
    """A function that raises another error in place of DataError."""

    def wrapped(*arguments):
        try:
            return function(*arguments)
        except DataError as cause:
            raise error from cause

    return wrapped


def tasks_without_empty_images(folder, records, scores):
    return COCO.task_files(folder, without_empty_images(records), scores)


def submissions_without_empty_images(path, images, class_names):
    submissions = COCO.submissions(path, images, class_names)
    drawn = {image_id: given for image_id, given in submissions.by_image.items() if given.submissions[0].boxes}
    return Submissions(drawn)


def submissions_for_everything(path, images, class_names):
    empty = {image.image_id: ImageSubmissions((Submission(),)) for image in images}
    return Submissions(empty | COCO.submissions(path, images, class_names).by_image)


def empty_images_unlabeled(records):
    drawn = {box.image_id for box in records.annotations}
    return changed(records, unlabeled=frozenset({image.image_id for image in records.images} - drawn))


BROKEN = {
    "check_texts": dataclasses.replace(COCO, how_to_answer=" "),
    "check_boxes_survive": boxes_changed(shifted),
    "check_crowd_flags_survive": boxes_changed(no_crowd),
    "check_ignore_flags_survive": boxes_changed(nothing_ignored),
    "check_images_survive": read_changed(without_empty_images),
    "check_ids_survive": read_changed(renumbered),
    "check_classes_survive": read_changed(sorted_classes),
    "check_masks_are_kept_as_said": dataclasses.replace(VOC, keeps_masks=True),
    "check_loss_is_refused": dataclasses.replace(VOC, files=files_that_drop_twins),
    "check_records_untouched": dataclasses.replace(COCO, files=files_that_change_the_records),
    "check_files_stay_inside": dataclasses.replace(COCO, files=files_beside),
    "check_guess": dataclasses.replace(COCO, guess=lambda _path: False),
    "check_image_folder": dataclasses.replace(COCO, image_folder=lambda path: Path(path.anchor)),
    "check_unreadable_files": dataclasses.replace(COCO, read=raising(COCO.read, ValueError("no JSON"))),
    "check_unlabeled_images": read_changed(empty_images_unlabeled),
    "check_task_files": dataclasses.replace(COCO, task_files=tasks_without_empty_images),
    "check_answers": dataclasses.replace(COCO, submissions=submissions_without_empty_images),
    "check_unanswered_images": dataclasses.replace(COCO, submissions=submissions_for_everything),
    "check_unreadable_answers": dataclasses.replace(COCO, submissions=raising(COCO.submissions, KeyError("images"))),
}


def refuses(check, format_, folder):
    folder.mkdir()
    try:
        check(format_, folder)
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("check", format_checks(), ids=lambda check: check.__name__)
def test_each_check_alone_refuses_a_broken_format(check, tmp_path):
    broken = BROKEN[check.__name__]
    refused = {c.__name__ for c in format_checks() if refuses(c, broken, tmp_path / c.__name__)}
    assert refused == {check.__name__}
