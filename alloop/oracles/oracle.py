"""Who answers: the two kinds of oracle, the tasks they are given and the answers they give.

A `RevealingOracle` knows the labels and answers at once; a `HumanOracle` hands tasks to people, whose answers come
later, in part, and may be changed. The loop asks which of the two it has, never for a name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64

from alloop.budget.charges import Edits
from alloop.class_values import Truth
from alloop.geometry.boxes import pairwise_iou
from alloop.values import Annotations, ImageId, ImageRecord

if TYPE_CHECKING:
    from alloop.data.splits import Split  # reading the ledger needs no splits

State = Literal["todo", "draft", "done", "skipped", "invalid", "conflict", "missing"]
CLOSED: tuple[State, ...] = ("done", "skipped")
SAME = 0.5  # pixels that a corner may move while the box counts as accepted
OVERLAP = 0.5  # IoU from which a box counts as the one that was shown, moved


@dataclass(frozen=True, slots=True, eq=False)
class PreAnnotations:
    """The detector's boxes that a person is shown before drawing, xyxy in pixels of the image as displayed."""

    boxes: Float32[np.ndarray, "n 4"]
    labels: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        """Return the number of boxes."""
        return len(self.boxes)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image to annotate; `pre_annotations` is None where people are shown no boxes."""

    image: ImageRecord
    pre_annotations: PreAnnotations | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Where the annotation of one image stands.

    `annotations` are there when the state is `done`. `work` maps the oracle's own name of each piece of work to its
    seconds, so that a piece that is reported again is charged by its increase. `remark` is for the user.
    """

    state: State
    annotations: Annotations | None = None
    work: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""


@runtime_checkable
class RevealingOracle(Protocol):
    """An oracle that knows the labels. Asking for the same image again gives the same and costs nothing."""

    def annotate(self, image_ids: Sequence[ImageId]) -> dict[ImageId, Truth]:
        """Return the annotations of each image, empty ones for an image without objects."""


@runtime_checkable
class HumanOracle(Protocol):
    """An oracle that asks people. It keeps nothing between calls, so a run may stop anywhere and go on.

    The loop records a round's requests first, then calls `push` and `pull` at every start until all are closed.
    """

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Hand over the tasks that are not handed over yet; return where people find them.

        The loop calls it any number of times with the same tasks, also after a stop in the middle.
        """

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        """Return where each of these images stands now."""


@runtime_checkable
class OraclePlugin(Protocol):
    """A dataclass that a config names under `oracle.name`; its fields are its parameters.

    `asks_people` is False where the labels are there already; studies and pruning need such an oracle.
    """

    asks_people: ClassVar[bool]

    def connect(self, pool: "Split") -> RevealingOracle | HumanOracle:
        """Return the oracle for the images of a pool.

        Raises:
            ConfigError: a parameter that cannot be used, or a pool that people cannot be shown.
        """


def edits(pre_annotations: PreAnnotations, answered: Annotations) -> Edits:
    """Match the boxes that were shown with the boxes that came back, one to one, by the largest total overlap.

    A matched box that moved by at most half a pixel and kept its class was accepted. One that overlaps by at least
    half, of whatever class, was moved or relabeled. A shown box without a match was deleted, and a returned box
    without a match was added.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  slow to import, and `alloop status` needs none

    shown = np.asarray(pre_annotations.boxes, dtype=np.float32).reshape(-1, 4)
    overlap = pairwise_iou(shown, answered.boxes)
    shift = np.abs(pre_annotations.boxes[:, None, :] - answered.boxes[None, :, :]).max(axis=2, initial=0.0)
    same = (shift <= SAME) & (pre_annotations.labels[:, None] == answered.labels[None, :])
    weight = np.where(overlap >= OVERLAP, overlap + same, 0.0)  # an unchanged box is matched before any other
    matches = [(i, j) for i, j in zip(*linear_sum_assignment(-weight), strict=True) if weight[i, j] > 0]
    accepted = sum(bool(same[i, j]) for i, j in matches)
    return Edits(
        accepted=accepted,
        moved=len(matches) - accepted,
        deleted=len(pre_annotations) - len(matches),
        added=len(answered) - len(matches),
    )
