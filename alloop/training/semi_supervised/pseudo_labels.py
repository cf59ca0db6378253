"""Pseudo-labels: which of a teacher's detections a student is trained on, and how many of them are correct.

Reliability of a box (Xu et al., Soft Teacher, ICCV 2021, section 3.3): the box is jittered N times and refined by the
teacher each time; with s_k the standard deviation of coordinate k of the refined boxes,

    u = 1/4 sum_k s_k / (0.5 (h + w)),   reliable where u < 0.02
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from alloop.detectors.region_protocol import PseudoBoxes
from alloop.geometry.boxes import pairwise_iou
from alloop.values import Annotations

Refine = Callable[[list[Tensor], list[Tensor]], list[Tensor]]
"""The teacher's second stage, from boxes `[n, 4]` and labels `[n]` of each image to boxes `[n, 4]`."""
INITIAL = 0.5  # score that a detection must pass before its variance is computed
MATCH = 0.5  # IoU from which a pseudo-box is correct


def box_variance(
    refine: Refine, boxes: Sequence[Tensor], labels: Sequence[Tensor], jitters: int, scale: float
) -> list[Tensor]:
    """Return the variance u `[n]` of the boxes of each image.

    Args:
        refine: the teacher's second stage.
        boxes: `[n, 4]` of each image.
        labels: `[n]` of each image.
        jitters: N.
        scale: standard deviation of the jitter, as a share of width and height.
    """
    sides = [(b[:, 2:] - b[:, :2]).clamp(min=1) for b in boxes]  # [n, 2] of each image
    jittered = [
        (b + torch.randn(jitters, *b.shape, device=b.device) * scale * s.repeat(1, 2)).flatten(0, 1)
        for b, s in zip(boxes, sides, strict=True)
    ]
    refined = refine(jittered, [label.repeat(jitters) for label in labels])
    variances = []
    for coordinates, s in zip(refined, sides, strict=True):
        samples = coordinates.view(jitters, len(s), 4)
        squares = (samples - samples.mean(dim=0)).square().sum(dim=0)  # `std` warns where there is no box
        variances.append((squares / (jitters - 1)).sqrt().mean(dim=1) / (0.5 * s.sum(dim=1)))
    return variances


def filtered_boxes(
    detections: dict[str, Tensor], variance: Tensor | None, thresholds: Tensor, base: float, max_variance: float
) -> PseudoBoxes:
    """Return the pseudo-boxes of one image, filtered separately for each loss.

    Args:
        detections: of the teacher.
        variance: u of the detections with a score above `INITIAL`; None where no box is regressed.
        thresholds: `[k]`, lower limit of the score by class, for the classification loss.
        base: lower limit of the score for the loss of the proposal network.
        max_variance: upper limit of u for the regression loss.
    """
    boxes, scores, labels = detections["boxes"], detections["scores"], detections["labels"]
    valid = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    confident = valid & (scores > thresholds[labels])
    reliable = torch.zeros_like(valid)
    if variance is not None:
        reliable[scores > INITIAL] = variance < max_variance
    reliable &= valid
    return PseudoBoxes(
        proposals=boxes[valid & (scores > base)],
        boxes=boxes[confident],
        labels=labels[confident],
        scores=scores[confident],
        reliable=boxes[reliable],
        reliable_labels=labels[reliable],
    )


def match_counts(
    truth: Annotations, boxes: Float32[np.ndarray, "n 4"], labels: Int64[np.ndarray, " n"], classes: int
) -> Int64[np.ndarray, "3 k"]:
    """Return for each class the numbers of pseudo-boxes, of correct ones, and of true boxes.

    A pseudo-box is correct when it overlaps a true box of its class, which no better one has matched, by an IoU of at
    least one half; the boxes are given by falling score.
    """
    true_boxes, true_labels = truth.boxes[truth.trainable], truth.labels[truth.trainable]
    counts = np.zeros((3, classes), dtype=np.int64)
    np.add.at(counts[0], labels, 1)
    np.add.at(counts[2], true_labels, 1)
    if not len(boxes) or not len(true_boxes):
        return counts
    overlap = np.where(labels[:, None] == true_labels[None], pairwise_iou(boxes, true_boxes), 0)
    for row in range(len(boxes)):
        best = int(overlap[row].argmax())
        if overlap[row, best] >= MATCH:
            counts[1, labels[row]] += 1
            overlap[:, best] = 0
    return counts
