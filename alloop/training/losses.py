"""The loss of each step as a number, read without making a GPU wait for it.

To read a number from a GPU at once means to wait until everything before it is computed, while the GPU gets nothing new
to do. So the copy is started with the step and read with the next one. A loss that is not finite is found one step
late, before anything of it is stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alloop.errors import TrainingError
from alloop.training.loss_history import LossHistory
from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class StepLoss:
    """The loss terms of one step, one number per image each, and the ids of its images."""

    terms: Mapping[str, Tensor]
    step: int
    image_ids: Sequence[ImageId]


class LossReader:
    """Reads the losses of a training, one after the other.

    Call `add` in every step and `check` before the next `add`, and before anything that was trained is stored.

    Attributes:
        latest: the last loss that was read; 0 before the first.
    """

    def __init__(self, device: torch.device, history: LossHistory | None = None) -> None:
        """Read nothing yet. On the CPU a loss is read at once. A history is given each loss that was read."""
        self.latest, self._history = 0.0, history
        self._at_once = device.type != "cuda"
        self._pending: tuple[StepLoss, Tensor, torch.cuda.Event | None] | None = None

    def add(self, loss: StepLoss) -> None:
        """Take the loss of a step.

        Raises:
            TrainingError: it was read at once, and it is not finite.
        """
        sums = torch.stack([term.detach().sum() for term in loss.terms.values()])
        if self._at_once:
            self._pending = loss, sums, None
            self.check()
            return
        copied = torch.empty_like(sums, device="cpu", pin_memory=True).copy_(sums, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = loss, copied, event

    def check(self) -> None:
        """Read the loss that was added last, if it was not read yet.

        Raises:
            TrainingError: it is not finite, with the ids of the images.
        """
        if self._pending is None:
            return
        (loss, sums, event), self._pending = self._pending, None
        if event is not None:
            event.synchronize()
        self.latest = float(sums.sum())
        if not abs(self.latest) < float("inf"):
            values = dict(zip(loss.terms, sums.tolist(), strict=True))
            msg = (
                f"training: the loss at step {loss.step} is not finite ({values}); images of this batch: "
                f"{sorted(set(loss.image_ids))}. Look at their boxes, lower training.lr, or set training.clip_norm."
            )
            raise TrainingError(msg)
        if self._history is not None:
            self._history.add(loss.step, dict(zip(loss.terms, sums.tolist(), strict=True)))
