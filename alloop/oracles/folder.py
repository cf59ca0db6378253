"""People behind a folder: the tasks of each round are written into it, and their answers are read from it.

FOLDER/round_000/README.txt      what to do
FOLDER/round_000/images/         the images to annotate
FOLDER/round_000/tasks...        the same in the chosen format, with the detector's boxes
FOLDER/round_000/answers...      what comes back: answers.json, .xml or .zip, or a folder of that name
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from alloop.data.formats.format import Format
from alloop.data.formats.table import annotation_format
from alloop.data.image_folder import image_path
from alloop.data.images import FolderImages
from alloop.data.splits import Split
from alloop.errors import ConfigError
from alloop.files import atomic_write
from alloop.oracles.answers import AnswerRules, Policy, answer_of
from alloop.oracles.oracle import Answer, Task
from alloop.oracles.tasks import records_of, scores_of
from alloop.values import ImageId, ImageRecord

ANSWERS = ("answers", "answers.json", "answers.xml", "answers.zip")


@dataclass(frozen=True)
class Folder:
    """People who exchange annotation files with us through a folder."""

    asks_people: ClassVar[bool] = True

    folder: Annotated[Path, Field(description="folder that tasks are written into and answers are read from")]
    format: Annotated[str, Field(description="annotation format of tasks and answers, or an import path")] = "coco"
    policy: Annotated[Policy, Field(description="what to do where several people disagree")] = "newest"
    default_seconds: Annotated[float, Field(ge=0, description="seconds of an annotation that reports none")] = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError where the format is unknown, before anything is trained."""
        annotation_format(self.format, "oracle.format")

    def connect(self, pool: Split) -> "FolderOracle":
        """Return the oracle over a pool.

        Raises:
            ConfigError: a pool whose images are not files.
        """
        if not isinstance(pool.images, FolderImages):
            msg = "oracle.name: folder needs a pool of image files, and the pool of this config has none"
            raise ConfigError(msg)
        rules = AnswerRules(pool.dataset.class_names, self.policy, self.default_seconds)
        return FolderOracle(self.folder, annotation_format(self.format, "oracle.format"), pool.images, rules)


@dataclass(frozen=True)
class FolderOracle:
    """The folder, the format of its files, the images of the pool, and how answers are judged."""

    folder: Path
    format: Format
    images: FolderImages
    rules: AnswerRules

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Write what is not there yet, and return where it is and how to answer. May be called any number of times."""
        folder = self._round_folder(round_)
        for task in tasks:
            target = image_path(folder / "images", task.image.file_name)
            if not target.is_file():
                atomic_write(target, self.images.stored(task.image.image_id))
        records = records_of(tasks, self.rules.class_names)
        for path, data in self.format.task_files(folder, records, scores_of(tasks)).items():
            if not path.is_file():
                atomic_write(path, data)
        classes = ", ".join(self.rules.class_names)
        text = f"{len(tasks)} images to annotate with boxes of: {classes}.\n{self.format.how_to_answer}\n"
        atomic_write(folder / "README.txt", text.encode())
        return f"{folder} ({self.format.how_to_answer})"

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        """Read the answers as they are now; an image that they do not name is still to do.

        Raises:
            ConfigError: several files of answers.
            DataError: answers that cannot be read.
        """
        paths = [path for name in ANSWERS if (path := self._round_folder(round_) / name).exists()]
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            msg = f"{paths[0].parent}: found {names}; keep the one that holds the answers"
            raise ConfigError(msg)
        answers = {image.image_id: Answer("todo") for image in images}
        for path in paths:
            answers |= self._answers(path, images)
        return answers

    def _round_folder(self, round_: int) -> Path:
        return self.folder / f"round_{round_:03d}"

    def _answers(self, path: Path, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        pool = list(self.images.records.values())  # a name is ambiguous when any image of the pool could be meant
        given = self.format.submissions(path, pool, self.rules.class_names)
        if given.unknown:
            warnings.warn(_unknown(path, given.unknown), stacklevel=2)
        for note in given.notes:
            warnings.warn(str(note), stacklevel=2)
        answered = [image for image in images if image.image_id in given.by_image]
        return {image.image_id: answer_of(given.by_image[image.image_id], image, self.rules) for image in answered}


def _unknown(path: Path, names: Sequence[str]) -> str:
    belong = "belongs" if len(names) == 1 else "belong"
    return f"{path}: {len(names)} of its images {belong} to no image of the pool, the first is {names[0]!r}; rename it"
