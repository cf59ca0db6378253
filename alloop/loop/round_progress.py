"""The progress of one round: each line tells what is being done, and how long the run still takes."""

import time

from alloop.ledger.store import Ledger
from alloop.loop.time_left import Doing, time_left, whole_training
from alloop.progress import Progress

LABELS = {"evaluate": "evaluation", "query": "query"}  # a training says itself what it does
REFRESH = 1.0  # seconds between two estimates


class RoundProgress(Progress):
    """Reports as another progress does. `begin` takes the step of the round that follows."""

    def __init__(self, shown: Progress, ledger: Ledger, round_: int, planned: int) -> None:
        """Report nothing yet."""
        super().__init__(quiet=True)
        self._shown, self._round, self._planned = shown, round_, planned
        self._finished, self._images = ledger.rounds(), ledger.spent().images
        self._first: tuple[str, float] | None = None  # the task that is watched, and its share when that began
        self._training: float | None = None
        self._left = ""
        self.begin("")

    def begin(self, step: str) -> None:
        """Begin a step: `train`, `evaluate` or `query`."""
        self._step, self._began, self._first, self._estimated = step, time.monotonic(), None, 0.0

    def say(self, text: str) -> None:
        """Print one line that stays."""
        self._shown.say(text)

    def step(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report that `done` of `total` steps of a task are done, and the time left in the run."""
        if self._step in LABELS:
            task = f"round {self._round}: {LABELS[self._step]}, {task}"
        self._estimate(task, done / max(1, total))
        self._shown.step(task, done, total, f"{detail}{self._left}".strip())

    def _estimate(self, task: str, share: float) -> None:
        now = time.monotonic()
        if self._first is None:
            self._first, self._began = (task, share), now if self._step == "train" else self._began
        if now - self._estimated < REFRESH:
            return
        self._estimated = now
        first, first_share = self._first
        if task != first:  # what follows the training itself, such as a retraining of the classifier
            share = 1.0
        elif self._step == "train":
            self._training = whole_training(now - self._began, first_share, share)
        doing = Doing(self._step, share, now - self._began, self._training)
        left = time_left(self._finished, self._images, self._planned, doing) if self._step else None
        self._left = "" if left is None else f" ({left} left in this run)"
