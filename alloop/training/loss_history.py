"""The loss along a training: means over equal numbers of steps, as a small CSV file.

What it holds is part of each checkpoint, so a training that was stopped and resumed writes the same bytes.
"""

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any

ROWS = 200  # at most, of one training


class LossHistory:
    """The mean of each loss term over every few steps.

    A term that a step does not have, as the unlabeled ones of a semi-supervised training at its beginning, counts
    where it occurs.
    """

    def __init__(self, steps: int) -> None:
        """Prepare for a training with a number of steps."""
        self._steps, self._every = steps, -(-steps // ROWS)
        self._rows: list[tuple[int, dict[str, float]]] = []  # finished steps, and the mean of each term
        self._sums: dict[str, tuple[float, int]] = {}  # of the row that has not ended yet

    def add(self, step: int, terms: Mapping[str, float]) -> None:
        """Take the loss terms of a step."""
        for name, value in terms.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1
        done = step + 1
        if done % self._every == 0 or done == self._steps:
            self._rows.append((done, {name: total / count for name, (total, count) in self._sums.items()}))
            self._sums = {}

    def state(self) -> dict[str, Any]:
        """Return everything as JSON, which keeps each number exactly."""
        return {"rows": self._rows, "sums": self._sums}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned."""
        self._rows = [(step, dict(means)) for step, means in state["rows"]]
        self._sums = {name: (total, count) for name, (total, count) in state["sums"].items()}

    def to_csv(self, lr: Callable[[int], float]) -> bytes:
        """Return the columns `step`, `lr`, `loss` and one for each term; `lr` gives the learning rate of a step.

        A row has the number of finished steps, the learning rate of the last of them, and means over the steps since
        the row before. `loss` is the sum of the terms.
        """
        names = list(dict.fromkeys(name for _, means in self._rows for name in means))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", "lr", "loss", *names])
        for done, means in self._rows:
            terms = [f"{means[name]:.6g}" if name in means else "" for name in names]
            writer.writerow([done, f"{lr(done - 1):.6g}", f"{sum(means.values()):.6g}", *terms])
        return text.getvalue().encode()
