"""What an annotation format has to say of itself. Its own file defines one `Format`; `table.py` lists it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alloop.data.records import Records
from alloop.data.submissions import ImageSubmissions
from alloop.values import ImageId, ImageRecord

Reader = Callable[[Path], Records]
Writer = Callable[[Records, Path], dict[Path, bytes]]
Finished = Callable[[Path, Records], set[ImageId]]
TaskWriter = Callable[[Path, Records, Mapping[ImageId, Sequence[float]]], dict[Path, bytes]]
SubmissionReader = Callable[[Path, Sequence[ImageRecord], Sequence[str]], dict[ImageId, ImageSubmissions]]


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format: reading, writing, and the exchange with people through a folder.

    `alloop.testing.format_checks()` checks everything that is said here.

    Attributes:
        title: one line that says what the format is, for help texts.
        how_to_answer: one or two sentences that tell people what to put into the folder of a round.
        read: `read(path)` returns the records of a file or folder. It raises DataError, naming the file, when
            they cannot be read; it does not validate them.
        files: `files(records, target)` returns the contents of the files that hold the records, by path. Every
            path is `target` or lies inside it. Reading `target` gives the same images, categories and boxes.
            It raises DataError where the format cannot hold the records.
        guess: `guess(path)` returns whether a file or folder looks like this format.
        image_folder: `image_folder(path)` returns the folder that the file names of the images refer to.
        finished: `finished(path, records)` returns the ids of the images that somebody has finished annotating;
            `records` are those that `read(path)` returned.
        task_files: `task_files(folder, records, scores)` returns the contents of the files, by path inside
            `folder`, that ask people for the images of `records`. Its boxes are pre-annotations; `scores` holds
            their confidences, in the order of the boxes, for each image that has pre-annotations.
        submissions: `submissions(path, images, class_names)` returns what people handed in at `path`, for the
            images that they named. It raises DataError when `path` cannot be read.
        keeps_masks: whether `files` keeps instance masks.
    """

    title: str
    how_to_answer: str
    read: Reader
    files: Writer
    guess: Callable[[Path], bool]
    image_folder: Callable[[Path], Path]
    finished: Finished
    task_files: TaskWriter
    submissions: SubmissionReader
    keeps_masks: bool = False


def folder_of_file(path: Path) -> Path:
    """Return the folder that an annotation file lies in; a folder is returned as it is."""
    return path if path.is_dir() else path.parent


def every_image(_path: Path, records: Records) -> set[ImageId]:
    """Return the ids of all images: what a format does that lists only finished images."""
    return {image.image_id for image in records.images}
