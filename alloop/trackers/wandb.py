"""Weights & Biases: a run with all figures, over the boxes paid."""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alloop.files import sha256_of
from alloop.trackers.tracker import RoundFigures, TrackedRun


@dataclass(frozen=True)
class WandB:
    """A run of Weights & Biases. The step is the number of boxes paid."""

    packages: ClassVar[tuple[str, ...]] = ("wandb",)

    project: Annotated[str, Field(description="name of the project")] = "alloop"
    mode: Annotated[
        str | None, Field(description="online, offline or disabled; null for what the environment says")
    ] = None

    def open(self, run: TrackedRun) -> "WandBRun":
        """Begin a run of Weights & Biases or go on with it, and show the finished rounds that it lacks."""
        opened = importlib.import_module("wandb").init(
            project=self.project,
            mode=self.mode,
            name=run.name,
            id=sha256_of(str(run.folder.resolve()).encode())[:16],  # one folder is one run, however often it goes on
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
        )
        listener = WandBRun(opened)
        for figures in run.finished:
            if figures.boxes >= opened.step:  # the first step that it does not have yet
                listener.booked(figures)
        return listener


class WandBRun:
    """An open run of Weights & Biases."""

    def __init__(self, run: Any) -> None:
        """Keep what `wandb.init` returned."""
        self._run = run

    def booked(self, figures: RoundFigures) -> None:
        """Write the figures."""
        values = {**figures.known(), "boxes": figures.boxes, "images": figures.images, "round": figures.round}
        self._run.log(values, step=figures.boxes)

    def close(self) -> None:
        """Send what is not sent yet."""
        self._run.finish()
