"""Contract checks for annotation formats, published so that users run them on their own.

    import pytest
    from alloop.testing import format_checks

    @pytest.mark.parametrize("check", format_checks(), ids=lambda check: check.__name__)
    def test_contract(check, tmp_path):
        check(MY_FORMAT, tmp_path)

Each check takes a `Format` and an empty folder. It raises AssertionError with what was expected and what was found.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from alloop.data.formats.format import Format
from alloop.data.records import Box, Category, Records
from alloop.data.submissions import DrawnBox
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

FormatCheck = Callable[[Format, Path], None]
NamedBox = tuple[str, tuple[float, ...]]  # class name, rounded (x, y, width, height)

GARBAGE = b"\x00\xff<{[garbage 1 2"
_POLYGON = msgspec.Raw(b"[[10,10,40,10,40,30]]")


def example_records() -> Records:
    """Return records with all that a format has to keep.

    Three images, one in a folder and one without a box; ids that do not ascend; categories that are sparse, not sorted
    by name, and one of them unused; boxes with fractions; a crowd; a box that is marked `ignore`; a mask.
    """
    images = [
        ImageRecord(ImageId(70), "day/a.jpg", 120, 90),
        ImageRecord(ImageId(12), "b.png", 64, 48),
        ImageRecord(ImageId(31), "day/empty.jpg", 50, 40),
    ]
    boxes = [
        Box(1, ImageId(70), 5, (10.5, 20.25, 30.0, 40.5), segmentation=_POLYGON),
        Box(2, ImageId(70), 3, (1.0, 2.0, 7.75, 9.0)),
        Box(3, ImageId(12), 5, (4.0, 4.0, 20.0, 30.0), ignore=1),
        Box(4, ImageId(12), 3, (0.0, 0.0, 64.0, 48.0), iscrowd=1),
    ]
    return Records(images, [Category(5, "zebra"), Category(3, "ant"), Category(9, "unused")], boxes)


def check_texts(format_: Format, _folder: Path) -> None:
    """The title is one line, and there is an instruction for those who answer."""
    assert format_.title.strip(), "expected a title, found an empty text"
    assert "\n" not in format_.title, f"expected a title of one line, found {format_.title!r}"
    assert format_.how_to_answer.strip(), "expected a sentence in how_to_answer, found an empty text"


def check_boxes_survive(format_: Format, folder: Path) -> None:
    """Every box comes back, with its class, within a hundredth of a pixel."""
    actual = _named_boxes(_written_and_read(format_, example_records(), folder))
    for name, boxes in _named_boxes(example_records()).items():
        assert not boxes or actual.get(name) == boxes, f"{name}: expected {boxes}, found {actual.get(name)}"


def check_crowd_flags_survive(format_: Format, folder: Path) -> None:
    """Every image has as many crowd boxes as before."""
    expected = _marked(example_records(), "iscrowd")
    actual = _marked(_written_and_read(format_, example_records(), folder), "iscrowd")
    assert actual == expected, f"expected the crowd boxes {expected}, found {actual}"


def check_ignore_flags_survive(format_: Format, folder: Path) -> None:
    """Every image has as many boxes that are marked `ignore` as before."""
    expected = _marked(example_records(), "ignore")
    actual = _marked(_written_and_read(format_, example_records(), folder), "ignore")
    assert actual == expected, f"expected the boxes marked ignore {expected}, found {actual}"


def check_images_survive(format_: Format, folder: Path) -> None:
    """Every image comes back with its size, also the one without a box."""
    expected = _sizes(example_records())
    actual = _sizes(_written_and_read(format_, example_records(), folder))
    assert actual == expected, f"expected the images {expected}, found {actual}"


def check_ids_survive(format_: Format, folder: Path) -> None:
    """Images keep their ids."""
    read = _written_and_read(format_, example_records(), folder)
    ids = {image.file_name: image.image_id for image in example_records().images}
    for image in read.images:
        expected = ids.get(image.file_name)
        assert image.image_id == expected, f"{image.file_name}: expected id {expected}, found {image.image_id}"


def check_classes_survive(format_: Format, folder: Path) -> None:
    """Categories keep ids, names and order, also those that no box has: the order gives the labels."""
    expected = example_records().categories
    actual = _written_and_read(format_, example_records(), folder).categories
    assert actual == expected, f"expected the categories {expected}, found {actual}"


def check_masks_are_kept_as_said(format_: Format, folder: Path) -> None:
    """Masks come back where `keeps_masks` is true."""
    read = _written_and_read(format_, example_records(), folder)
    masks = [bytes(box.segmentation) for box in read.annotations]
    assert not format_.keeps_masks or bytes(_POLYGON) in masks, f"keeps_masks is true, but the mask is not in {masks}"


def check_loss_is_refused(format_: Format, folder: Path) -> None:
    """Two images that differ only in their suffix both come back, or `files` raises DataError."""
    twins = [ImageRecord(ImageId(1), "a.jpg", 20, 20), ImageRecord(ImageId(2), "a.png", 30, 30)]
    boxes = [Box(1, ImageId(1), 5, (1.0, 2.0, 9.0, 9.0)), Box(2, ImageId(2), 5, (3.0, 4.0, 9.0, 9.0))]
    records = Records(twins, example_records().categories, boxes)
    try:
        read = _written_and_read(format_, records, folder)
    except DataError:
        return
    assert _sizes(read) == _sizes(records), f"expected {_sizes(records)} or a DataError, found {_sizes(read)}"


def check_records_untouched(format_: Format, folder: Path) -> None:
    """Writing leaves the records as they are."""
    records = example_records()
    format_.files(records, folder / "target")
    assert records == example_records(), "files() changed the records that it was given"


def check_files_stay_inside(format_: Format, folder: Path) -> None:
    """Every file is the target or lies inside it."""
    target = folder / "target"
    outside = _outside(format_.files(example_records(), target), target)
    assert not outside, f"expected files inside {target}, found {outside}"


def check_guess(format_: Format, folder: Path) -> None:
    """What the format wrote is recognised as its own."""
    assert format_.guess(_written(format_, example_records(), folder)), "expected guess() to recognise its own files"


def check_image_folder(format_: Format, folder: Path) -> None:
    """The images are looked for beside the annotations or below them."""
    actual = format_.image_folder(_written(format_, example_records(), folder))
    assert actual.resolve().is_relative_to(folder.resolve()), f"expected a folder inside {folder}, found {actual}"


def check_unreadable_files(format_: Format, folder: Path) -> None:
    """A missing file and garbage raise DataError, which names the file; nothing else is raised."""
    missing = _refusal(lambda: format_.read(folder / "missing"), folder)
    assert missing, f"expected a DataError for {folder / 'missing'}, which does not exist"
    refused = [_with_garbage(format_, path, folder) for path in format_.files(example_records(), folder / "target")]
    assert any(refused), f"expected a DataError when a file holds {GARBAGE!r}, found none"


def check_unlabeled_images(format_: Format, folder: Path) -> None:
    """Labeled, empty and unlabeled are three things: an unlabeled image comes back as such, an empty one does not."""
    whole = example_records()
    untouched = ImageRecord(ImageId(88), "day/untouched.jpg", 40, 30)
    partly = Records([*whole.images, untouched], whole.categories, whole.annotations, frozenset({ImageId(88)}))
    read = _written_and_read(format_, partly, folder)
    actual = {image.file_name for image in read.images if image.image_id in read.unlabeled}
    assert actual == {"day/untouched.jpg"}, f"expected day/untouched.jpg to be unlabeled alone, found {sorted(actual)}"


def check_task_files(format_: Format, folder: Path) -> None:
    """Every image is asked for, and the files lie in the folder of the round."""
    scores = {ImageId(70): [0.9, 0.4], ImageId(12): [0.8, 0.3]}
    files = format_.task_files(folder, example_records(), scores)
    assert not _outside(files, folder), f"expected task files inside {folder}, found {_outside(files, folder)}"
    text = b"".join(path.as_posix().encode() + data for path, data in files.items())
    for image in example_records().images:
        name = Path(image.file_name).stem
        assert name.encode() in text, f"expected a task for {image.file_name}, found none in {sorted(files)}"


def check_answers(format_: Format, folder: Path) -> None:
    """Answers are read as they were drawn: one submission per image, also for the image without a box."""
    submissions = _answered(format_, example_records(), folder)
    for image in example_records().images:
        assert image.image_id in submissions, f"{image.file_name}: expected a submission, found none"
        boxes = _named_boxes(example_records())[image.file_name]
        actual = submissions[image.image_id]
        assert actual == boxes, f"{image.file_name}: expected {boxes}, found {actual}"


def check_unanswered_images(format_: Format, folder: Path) -> None:
    """An image that the answers do not name has no submission: it is not empty, it is still to do."""
    whole = example_records()
    first = whole.images[0]
    boxes = [box for box in whole.annotations if box.image_id == first.image_id]
    submissions = _answered(format_, Records([first], whole.categories, boxes), folder)
    assert set(submissions) <= {first.image_id}, f"expected an answer for {first.file_name} alone, found {submissions}"


def check_unreadable_answers(format_: Format, folder: Path) -> None:
    """Garbage in the answers raises nothing but DataError."""
    images, names = example_records().images, _class_names()
    for path, data in format_.files(example_records(), folder / "answers").items():
        answers = _written(format_, example_records(), folder, "answers")
        path.write_bytes(GARBAGE)
        _refusal(lambda answers=answers: format_.submissions(answers, images, names), folder)  # type: ignore[misc]
        path.write_bytes(data)


def format_checks() -> list[FormatCheck]:
    """Return every check of the format contract; each takes a format and an empty folder."""
    return [
        check_texts,
        check_boxes_survive,
        check_crowd_flags_survive,
        check_ignore_flags_survive,
        check_images_survive,
        check_ids_survive,
        check_classes_survive,
        check_masks_are_kept_as_said,
        check_loss_is_refused,
        check_records_untouched,
        check_files_stay_inside,
        check_guess,
        check_image_folder,
        check_unreadable_files,
        check_unlabeled_images,
        check_task_files,
        check_answers,
        check_unanswered_images,
        check_unreadable_answers,
    ]


def _written(format_: Format, records: Records, folder: Path, name: str = "target") -> Path:
    target = folder / name
    for path, data in format_.files(records, target).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return target


def _written_and_read(format_: Format, records: Records, folder: Path) -> Records:
    return format_.read(_written(format_, records, folder))


def _answered(format_: Format, records: Records, folder: Path) -> dict[ImageId, list[NamedBox]]:
    """Return the boxes of each image that the answers finish, after `records` were handed in as answers."""
    answers = _written(format_, records, folder, "answers")
    submissions = format_.submissions(answers, example_records().images, _class_names())
    return {image_id: _drawn(s.boxes) for image_id, given in submissions.by_image.items() for s in given.submissions}


def _class_names() -> list[str]:
    return [category.name for category in example_records().categories]


def _named_boxes(records: Records) -> dict[str, list[NamedBox]]:
    """Return the class names and rounded boxes of each image, by file name, in a fixed order."""
    boxes, names = records.boxes_by_image(), records.category_names()
    return {
        image.file_name: _drawn([DrawnBox(names[box.category_id], box.bbox) for box in boxes[image.image_id]])
        for image in records.images
    }


def _drawn(boxes: Sequence[DrawnBox]) -> list[NamedBox]:
    return sorted((box.label, tuple(round(float(number), 2) + 0.0 for number in box.bbox)) for box in boxes)


def _marked(records: Records, flag: Literal["iscrowd", "ignore"]) -> dict[str, int]:
    """Return the number of boxes with a flag of each image that has some, by file name."""
    boxes = records.boxes_by_image()
    counts = {image.file_name: sum(getattr(box, flag) for box in boxes[image.image_id]) for image in records.images}
    return {name: count for name, count in counts.items() if count}


def _sizes(records: Records) -> dict[str, tuple[int, int]]:
    return {image.file_name: (image.width, image.height) for image in records.images}


def _outside(files: Mapping[Path, bytes], folder: Path) -> list[Path]:
    return [path for path in files if not path.resolve().is_relative_to(folder.resolve())]


def _with_garbage(format_: Format, path: Path, folder: Path) -> bool:
    """Return whether a data set is refused when one of its files holds garbage."""
    target = _written(format_, example_records(), folder)
    path.write_bytes(GARBAGE)
    return _refusal(lambda: format_.read(target), folder)


def _refusal(call: Callable[[], object], folder: Path) -> bool:
    """Return whether a call raises DataError; raise AssertionError when it raises anything else."""
    message = None
    try:
        call()
    except DataError as error:
        message = str(error)
    except Exception as error:
        msg = f"expected a DataError that names the file, found {type(error).__name__}: {error}"
        raise AssertionError(msg) from error
    assert message is None or str(folder) in message, f"expected the file to be named, found {message!r}"
    return message is not None
