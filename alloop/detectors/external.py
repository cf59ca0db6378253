"""A detector that another program trains: a round hands it files, and reads its predictions from files."""

import shlex
from dataclasses import dataclass
from typing import Annotated, ClassVar, NoReturn

from pydantic import Field

from alloop.data.formats.table import annotation_format
from alloop.errors import ConfigError
from alloop.query import Need


@dataclass(frozen=True)
class External:
    """Another program; `alloop.external` says which files go to it and come back.

    It has a size to scale images to only because every detector has one; no image is decoded for it.
    """

    is_external: ClassVar[bool] = True
    gives: ClassVar[frozenset[Need]] = frozenset(
        {Need.DETECTIONS, Need.NOISY_DETECTIONS, Need.EMBEDDINGS, Need.REGION_FEATURES}
    )
    short_side: ClassVar[int] = 800
    long_side: ClassVar[int] = 1333

    command: Annotated[
        str | None,
        Field(
            description="program to run in every round, with {ask}, {tell} and {work} for its folders, {round}, {seed} "
            "and {python}, the interpreter of alloop; null waits until somebody has run it"
        ),
    ] = None
    time_limit_hours: Annotated[float, Field(gt=0, description="time after which the program is stopped")] = 24.0
    labeled_as: Annotated[
        tuple[str, ...], Field(description="formats in which the labeled images are written besides COCO, as yolo")
    ] = ()

    def __post_init__(self) -> None:
        """Raise ConfigError for a command that no shell could split, or an unknown format."""
        self.arguments()
        for name in self.labeled_as:
            annotation_format(name, "detector.labeled_as")

    def arguments(self) -> list[str]:
        """Return the words of the command, quoted as in a shell; none where somebody else runs the program."""
        try:
            words = shlex.split(self.command or "")
        except ValueError as error:
            msg = f"detector.command: {self.command!r} cannot be split into words ({error}); close the quote"
            raise ConfigError(msg) from error
        if self.command is not None and not words:
            msg = "detector.command: expected a program and its arguments, found nothing; use null to wait for it"
            raise ConfigError(msg)
        return words

    def build(self, classes: int) -> NoReturn:  # noqa: ARG002  every detector is built in this way
        """Raise ConfigError: there is no network here."""
        msg = "detector.name: external is trained by another program; this work needs a detector that alloop trains"
        raise ConfigError(msg)
