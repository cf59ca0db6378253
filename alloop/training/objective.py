"""What a training step minimises. `supervised` and `semi_supervised.objective` implement it."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor

from alloop.values import ImageId


@runtime_checkable
class TrainingObjective(Protocol):
    """The loss of each step.

    `train` calls `restore` where it resumes from a checkpoint, then `begin` once, then for every step `__call__` and,
    after the weights were updated, `end_step`. `state` may be called after any `end_step`.
    """

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """Prepare for the first step of this process, also after a resume.

        Args:
            averaged: the moving average of the weights; the training updates these tensors in place.
        """

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the loss terms of a step, one number per image each, and the ids of its images."""

    def end_step(self, step: int) -> None:
        """Finish a step after the weights were updated."""

    def state(self) -> dict[str, Tensor]:
        """Return what the next steps depend on besides the weights and the step number."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` returned."""
