"""Figures that summarise a result: AP against boxes, one curve or two; and how classes are balanced."""

import numpy as np
from jaxtyping import Float


def ap_at(boxes: Float[np.ndarray, " n"], ap: Float[np.ndarray, " n"], paid: float) -> float | None:
    """AP at a number of boxes, by linear interpolation; None outside the curve."""
    if not len(boxes) or not boxes[0] <= paid <= boxes[-1]:
        return None
    return float(np.interp(paid, boxes, ap))


def boxes_to_reach(boxes: Float[np.ndarray, " n"], ap: Float[np.ndarray, " n"], target: float) -> float | None:
    """Boxes at which a curve first reaches a target AP, by linear interpolation; None if it never does."""
    above = np.flatnonzero(ap >= target)
    if not len(above):
        return None
    last = int(above[0])
    if last == 0:
        return float(boxes[0])
    share = (target - ap[last - 1]) / (ap[last] - ap[last - 1])
    return float(boxes[last - 1] + share * (boxes[last] - boxes[last - 1]))


def saving(
    boxes: Float[np.ndarray, " n"],
    ap: Float[np.ndarray, " n"],
    other_boxes: Float[np.ndarray, " m"],
    other_ap: Float[np.ndarray, " m"],
    target: float,
) -> float | None:
    """1 - boxes / boxes of the other curve, both to reach a target AP; None where either never does."""
    needed, paid = boxes_to_reach(boxes, ap, target), boxes_to_reach(other_boxes, other_ap, target)
    return None if needed is None or not paid else 1 - needed / paid


def efficiency(boxes: float, ap: float) -> float:
    """10^4 AP / boxes, as in ISAL's tables. Over several seeds: of the mean AP and the mean boxes."""
    return 1e4 * ap / boxes


def class_entropy(counts: Float[np.ndarray, " k"]) -> float:
    """Entropy in nats of the shares of the classes; log k when all are alike, 0 for nothing at all."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return float(-(shares * np.log(shares)).sum() + 0.0)


def class_divergence(counts: Float[np.ndarray, " k"], full: Float[np.ndarray, " k"]) -> float:
    """Kullback-Leibler divergence in nats of a subset's class shares from the full set's; 0 for an empty subset."""
    present = counts > 0
    if not present.any():
        return 0.0
    p, q = counts[present] / counts.sum(), full[present] / full.sum()
    return float((p * np.log(p / q)).sum())
