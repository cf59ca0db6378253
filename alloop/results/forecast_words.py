"""The forecast of one run, in words and as plain values."""

import math
from dataclasses import dataclass
from typing import Any

from alloop.results.forecast import BEYOND, ROUNDS, Estimate, Forecast


@dataclass(frozen=True, slots=True)
class RunForecast:
    """One run, what it has reached, and how it goes on.

    Attributes:
        name: name of the run.
        boxes: boxes paid for before each round, in total.
        values: the metric after each round.
        curve: the forecast; None where the rounds are too few.
    """

    name: str
    boxes: tuple[float, ...]
    values: tuple[float, ...]
    curve: Forecast | None

    def target(self, target: float) -> str:
        """Return in words after how many boxes the metric is a target, up to twice the boxes paid and no further.

        Recorded curves test forecasts up to there. Beyond, only a lower bound is given.
        """
        reached = next((n for n, value in zip(self.boxes, self.values, strict=True) if value >= target), None)
        if reached is not None:
            return f"reached after {reached:.0f} boxes"
        if self.curve is None:
            return _TOO_FEW
        paid, limit, boxes = self.curve.paid, BEYOND * self.curve.paid, self.curve.boxes_for(target)
        if boxes.high <= limit:
            more = max(0.0, boxes.median - paid)
            return (
                f"after {boxes.median:.0f} boxes (95 % {boxes.low:.0f} to {boxes.high:.0f}), {more:.0f} more than paid"
            )
        if boxes.median <= limit:
            return f"after {boxes.median:.0f} boxes (95 % {boxes.low:.0f} to more than {limit:.0f})"
        if boxes.low <= limit:
            return f"not before {boxes.low:.0f} boxes (95 %); more cannot be said"
        return f"not within {limit:.0f} boxes, twice what is paid (95 %); more cannot be said"

    def after(self, boxes: float | None) -> str:
        """Return in words how high the metric is after a number of boxes, or after twice those paid."""
        if self.curve is None:
            return _TOO_FEW
        limit = BEYOND * self.curve.paid
        if boxes is not None and boxes > limit:
            return f"cannot be said beyond {limit:.0f} boxes, twice what is paid"
        value = self.curve.ap(boxes or limit)
        return f"{value.median:.3f} (95 % {value.low:.3f} to {value.high:.3f}) after {boxes or limit:.0f} boxes"

    def plain(self, target: float | None, boxes: float | None) -> dict[str, Any]:
        """Return the same as plain values; without the limit, which is a value of its own."""
        tree: dict[str, Any] = {"run": self.name, "boxes": self.boxes[-1], "value": self.values[-1]}
        if self.curve is None:
            return tree
        limit = BEYOND * self.curve.paid
        tree["tested_up_to_boxes"] = limit
        if target is not None:
            tree["boxes_for"] = {"target": target, **_plain(self.curve.boxes_for(target))}
        if boxes is not None or target is None:
            tree["after"] = {"boxes": boxes or limit, **_plain(self.curve.ap(boxes or limit))}
        return tree


_TOO_FEW = f"needs {ROUNDS} rounds that bought boxes"


def _plain(estimate: Estimate) -> dict[str, float | None]:
    """Return an estimate; None is never enough."""
    values = {"median": estimate.median, "low": estimate.low, "high": estimate.high}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
