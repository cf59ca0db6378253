"""What is common to all ways of asking people: a task, an answer, and what became of the boxes they were shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from alloop.geometry.boxes import pairwise_iou
from alloop.values import Annotations, ImageId, ImageRecord

State = Literal["todo", "draft", "done", "skipped", "invalid", "conflict", "missing"]
SAME = 0.5  # pixels that a corner may move while the box counts as accepted
OVERLAP = 0.5  # IoU from which a box counts as the one that was shown, moved


@dataclass(frozen=True, slots=True, eq=False)
class PreAnnotations:
    """Boxes that a person is shown before drawing; `scores` are the detector's."""

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.boxes)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """One image to be annotated, with the detector's boxes or without any."""

    image: ImageRecord
    shown: PreAnnotations | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Where one image stands: annotations when it is done, seconds by the oracle's name of each piece of work."""

    state: State
    annotations: Annotations | None = None
    work: Mapping[str, float] = field(default_factory=dict)
    remark: str = ""


@runtime_checkable
class People(Protocol):
    """Whoever draws boxes, behind a server or a folder. Nothing is remembered between calls."""

    def push(self, round_: int, tasks: Sequence[Task]) -> str:
        """Hand over what is not handed over yet, and say where it is. May be called any number of times."""

    def pull(self, round_: int, images: Sequence[ImageRecord]) -> dict[ImageId, Answer]:
        """Where each of these images stands now."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What people did to the boxes that they were shown."""

    accepted: int
    moved: int
    deleted: int
    added: int


def edits(shown: PreAnnotations, answered: Annotations) -> Edits:
    """Match the boxes shown to the boxes that came back, one to one, by the largest overlap in all.

    A match that did not move by more than half a pixel and kept its class was accepted; one that overlaps
    by half, of whatever class, was moved (or named anew). What was shown and has no match was deleted,
    what came back and has none was added.
    """
    from scipy.optimize import linear_sum_assignment  # noqa: PLC0415  slow to import, and `alloop status` needs none

    overlap = pairwise_iou(np.asarray(shown.boxes, dtype=np.float32).reshape(-1, 4), answered.boxes)
    moved_by = np.abs(shown.boxes[:, None, :] - answered.boxes[None, :, :]).max(axis=2, initial=0.0)
    same = (moved_by <= SAME) & (shown.labels[:, None] == answered.labels[None, :])
    worth = np.where(overlap >= OVERLAP, overlap + same, 0.0)  # what stayed as it was is matched before anything else
    matched = [(i, j) for i, j in zip(*linear_sum_assignment(-worth), strict=True) if worth[i, j] > 0]
    still = sum(bool(same[i, j]) for i, j in matched)
    return Edits(still, len(matched) - still, len(shown) - len(matched), len(answered) - len(matched))
