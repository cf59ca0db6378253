"""Readings of curves of AP against boxes paid: AP at a number of boxes, boxes to a target, savings, efficiency."""

import numpy as np
from jaxtyping import Float


def ap_at(boxes: Float[np.ndarray, " n"], ap: Float[np.ndarray, " n"], paid: float) -> float | None:
    """Return the AP at a number of boxes, by linear interpolation, or None outside the curve."""
    if not len(boxes) or not boxes[0] <= paid <= boxes[-1]:
        return None
    return float(np.interp(paid, boxes, ap))


def boxes_to_reach(boxes: Float[np.ndarray, " n"], ap: Float[np.ndarray, " n"], target: float) -> float | None:
    """Return where a curve first reaches a target AP, by linear interpolation, or None if it never does."""
    above = np.flatnonzero(ap >= target)
    if not len(above):
        return None
    first = int(above[0])
    if first == 0:
        return float(boxes[0])
    share = (target - ap[first - 1]) / (ap[first] - ap[first - 1])
    return float(boxes[first - 1] + share * (boxes[first] - boxes[first - 1]))


def saving(
    boxes: Float[np.ndarray, " n"],
    ap: Float[np.ndarray, " n"],
    other_boxes: Float[np.ndarray, " m"],
    other_ap: Float[np.ndarray, " m"],
    target: float,
) -> float | None:
    """Return 1 - boxes / boxes of the other curve, both to reach a target AP, or None where either never does."""
    needed, paid = boxes_to_reach(boxes, ap, target), boxes_to_reach(other_boxes, other_ap, target)
    return None if needed is None or not paid else 1 - needed / paid


def efficiency(boxes: float, ap: float) -> float:
    """Return 10^4 AP / boxes, as in the tables of ISAL. Over several seeds give the mean AP and the mean boxes."""
    return 1e4 * ap / boxes
