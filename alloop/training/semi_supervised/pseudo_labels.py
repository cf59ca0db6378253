"""Pseudo-labels: which of a teacher's detections a student may believe, and how right they were.

Reliability of a box (Xu et al., Soft Teacher, ICCV 2021, section 3.3): the box is moved a little, N times, and
refined each time by the teacher; with s_k the deviation of coordinate k of the refined boxes,

    u = 1/4 sum_k s_k / (0.5 (h + w)),   reliable where u < 0.02
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from alloop.detectors.protocol import PseudoBoxes
from alloop.geometry.boxes import pairwise_iou
from alloop.values import Annotations

Refine = Callable[[list[Tensor], list[Tensor]], list[Tensor]]
INITIAL = 0.5  # score below which a detection is not even tried as a reliable box
MATCH = 0.5  # IoU from which a pseudo-box is counted as right


def box_variance(
    refine: Refine, boxes: Sequence[Tensor], labels: Sequence[Tensor], jitters: int, scale: float
) -> list[Tensor]:
    """The variance u of each box `[n]` of each image.

    Args:
        refine: the teacher's second stage, from boxes and labels of each image to boxes.
        boxes: `[n, 4]` of each image.
        labels: `[n]` of each image.
        jitters: N.
        scale: deviation of the moves, as a share of width and height.
    """
    sides = [(b[:, 2:] - b[:, :2]).clamp(min=1) for b in boxes]
    moved = [
        (b + torch.randn(jitters, *b.shape, device=b.device) * scale * s.repeat(1, 2)).flatten(0, 1)
        for b, s in zip(boxes, sides, strict=True)
    ]
    refined = refine(moved, [label.repeat(jitters) for label in labels])
    found = []
    for r, s in zip(refined, sides, strict=True):
        coordinates = r.view(jitters, len(s), 4)
        squares = (coordinates - coordinates.mean(dim=0)).square().sum(dim=0)  # without torch's warning for no box
        found.append((squares / (jitters - 1)).sqrt().mean(dim=1) / (0.5 * s.sum(dim=1)))
    return found


def believed(
    found: dict[str, Tensor], variance: Tensor | None, thresholds: Tensor, base: float, most: float
) -> PseudoBoxes:
    """The pseudo-boxes of one image.

    Args:
        found: the teacher's detections.
        variance: u of those with a score above `INITIAL`; None where no box is regressed.
        thresholds: `[k]`, of the score for the classifier, by class.
        base: of the score for the proposal network.
        most: largest u for the box regression.
    """
    boxes, scores, labels = found["boxes"], found["scores"], found["labels"]
    wide = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    sure = wide & (scores > thresholds[labels])
    reliable = torch.zeros_like(wide)
    if variance is not None:
        reliable[scores > INITIAL] = variance < most
    reliable &= wide
    return PseudoBoxes(
        boxes[wide & (scores > base)], boxes[sure], labels[sure], scores[sure], boxes[reliable], labels[reliable]
    )


def right(
    truth: Annotations, boxes: Float32[np.ndarray, "n 4"], labels: Int64[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, "3 k"]:
    """Of each class: pseudo-boxes, those that are right, and boxes that are there.

    A pseudo-box is right when it overlaps a box of its class that no better one has taken by an IoU of at least
    one half; boxes come in order of falling score.
    """
    keep = truth.trainable
    there, of_class = truth.boxes[keep], truth.labels[keep]
    counts = np.zeros((3, classes), dtype=np.int64)
    np.add.at(counts[0], labels, 1)
    np.add.at(counts[2], of_class, 1)
    if not len(boxes) or not len(there):
        return counts
    overlap = np.where(labels[:, None] == of_class[None], pairwise_iou(boxes, there), 0)
    for row in range(len(boxes)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MATCH:
            counts[1, labels[row]] += 1
            overlap[:, best] = 0
    return counts
