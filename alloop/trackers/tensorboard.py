"""TensorBoard: a scalar for each metric, over the boxes paid."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alloop.trackers.tracker import RoundFigures, TrackedRun


@dataclass(frozen=True)
class TensorBoard:
    """Event files of TensorBoard. The step is the number of boxes paid."""

    packages: ClassVar[tuple[str, ...]] = ("tensorboard",)

    folder: Annotated[str, Field(description="folder of the event files, in the folder of the run")] = "tensorboard"

    def open(self, run: TrackedRun) -> "TensorBoardWriter":
        """Begin an event file that replaces those of earlier starts, and show the finished rounds in it."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  optional

        # everything that earlier starts wrote is hidden, from step 0 on: it is all shown again
        writer = TensorBoardWriter(SummaryWriter(str(run.folder / self.folder), purge_step=0))
        for figures in run.finished:
            writer.booked(figures)
        return writer


class TensorBoardWriter:
    """An open event file."""

    def __init__(self, writer: Any) -> None:
        """Keep a `SummaryWriter`."""
        self._writer = writer

    def booked(self, figures: RoundFigures) -> None:
        """Write the metrics and the number of images."""
        for name, value in {**figures.known(), "images": figures.images, "round": figures.round}.items():
            self._writer.add_scalar(name, value, global_step=figures.boxes)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()
