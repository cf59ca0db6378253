"""What an annotation format has to say of itself. Its own file defines one `Format`; `table.py` lists it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from alloop.data.image_index import ImageIndex
from alloop.data.records import Records
from alloop.data.submissions import Submissions
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

Writer = Callable[[Records, Path], dict[Path, bytes]]
TaskWriter = Callable[[Path, Records, Mapping[ImageId, Sequence[float]]], dict[Path, bytes]]
SubmissionReader = Callable[[Path, Sequence[ImageRecord], Sequence[str]], Submissions]


@dataclass(frozen=True, slots=True)
class Hints:
    """What is known beside an annotation file, for what the file does not say.

    Attributes:
        images: the images that the annotations belong to; None where no folder was given.
        classes: the names of the classes, in order; empty where nobody gave them.
        group_field: the field that holds the group of an image, for formats whose images have fields.
    """

    images: ImageIndex | None = None
    classes: tuple[str, ...] = ()
    group_field: str = "group"

    def size_of(self, name: str, where: str) -> tuple[int, int]:
        """Return (width, height) of an image whose size its annotations do not give.

        Raises:
            DataError: there is no folder of images, or the image is not in it; `where` names file and key.
        """
        if self.images is None:
            msg = f"{where}: the size of {name!r} is unknown; name its folder, with --images or in the config"
            raise DataError(msg)
        found = self.images.find(name)
        if found is None:
            msg = f"{where}: {name!r} is not in {self.images.place}{self.images.near(name)}; its size is unknown"
            raise DataError(msg)
        return self.images.size_of(found.name)


NO_HINTS = Hints()


@runtime_checkable
class Reader(Protocol):
    """Reads a file or folder."""

    def __call__(self, path: Path, hints: Hints = NO_HINTS) -> Records:
        """Return the records at `path`."""


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format: reading, writing, and the exchange with people through a folder.

    `alloop.testing.format_checks()` checks everything that is said here.

    Attributes:
        title: one line that says what the format is, for help texts.
        how_to_answer: one or two sentences that tell people what to put into the folder of a round.
        read: `read(path, hints)` returns the records of a file or folder. It says which images nobody has finished
            annotating (`unlabeled`), whether the classes are only those that occur (`classes_are_seen`), and what it
            read leniently (`notes`). It raises DataError, naming the file, when the records cannot be read; it does
            not validate them.
        files: `files(records, target)` returns the contents of the files that hold the records, by path. Every
            path is `target` or lies inside it. Reading `target` gives the same images, categories, boxes and
            unlabeled images. It raises DataError where the format cannot hold the records.
        guess: `guess(path)` returns whether a file or folder looks like this format.
        image_folder: `image_folder(path)` returns the folder that the file names of the images refer to.
        task_files: `task_files(folder, records, scores)` returns the contents of the files, by path inside
            `folder`, that ask people for the images of `records`. Its boxes are pre-annotations; `scores` holds
            their confidences, in the order of the boxes, for each image that has pre-annotations.
        submissions: `submissions(path, images, class_names)` returns what people handed in at `path`, for those
            of the pool's images that they named, and the names that belong to no image. It raises DataError when
            `path` cannot be read, or when a name may mean several images.
        keeps_masks: whether `files` keeps instance masks.
        images: the folder, inside that of the annotations, in which `alloop export` puts the images; `image_folder`
            leads there or to a folder above.
    """

    title: str
    how_to_answer: str
    read: Reader
    files: Writer
    guess: Callable[[Path], bool]
    image_folder: Callable[[Path], Path]
    task_files: TaskWriter
    submissions: SubmissionReader
    keeps_masks: bool = False
    images: str = "images"


def folder_of_file(path: Path) -> Path:
    """Return the folder that an annotation file lies in; a folder is returned as it is."""
    return path if path.is_dir() else path.parent
