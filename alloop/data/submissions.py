"""What people hand in for an image, as plain values: the formats read it, the oracles turn it into answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from alloop.data.notes import Note
from alloop.geometry.boxes import Number, Xywh
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box that a person drew: class name, `(x, y, width, height)` in pixels, and two flags.

    `iscrowd` is 1 where it marks a crowd, `ignore` where the object counts neither as found nor as missed.
    """

    label: str
    bbox: Xywh
    iscrowd: int = 0
    ignore: int = 0


@dataclass(frozen=True, slots=True)
class WorkTime:
    """One piece of work on a server: its name there and the seconds it took.

    `seconds` is None where the server reports none, and NaN where what it reports is no number.
    """

    name: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Submission:
    """What one person handed in for one image: boxes, or a skip, or something unusable with its `problem`.

    `person`, `order` and `work` are known only where a server keeps them. Of several submissions of one
    person the one with the largest `order` counts.
    """

    boxes: tuple[DrawnBox, ...] = ()
    is_skip: bool = False
    problem: str = ""
    remark: str = ""
    person: str = ""
    order: tuple[str, int] = ("", 0)
    work: WorkTime | None = None


@dataclass(frozen=True, slots=True)
class ImageSubmissions:
    """Everything that was handed in for one image. `has_draft` means that somebody has begun and saved a draft."""

    submissions: tuple[Submission, ...] = ()
    has_draft: bool = False


@dataclass(frozen=True, slots=True)
class Submissions:
    """Everything that was handed in at one place.

    Attributes:
        by_image: what was handed in for each image that was named.
        unknown: names that belong to no image.
        notes: what was read leniently.
    """

    by_image: Mapping[ImageId, ImageSubmissions] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()


def size_problem(found: tuple[Number, Number], expected: tuple[int, int]) -> str:
    """Return why boxes on an image of another size cannot be used; an empty text when the sizes are equal."""
    if found == expected:
        return ""
    return f"drawn on {found[0]:g} x {found[1]:g} pixels, the pool says {expected[0]} x {expected[1]}"
