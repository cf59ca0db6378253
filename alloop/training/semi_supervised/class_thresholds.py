"""Class thresholds of pseudo-labels (GbT): lower for a class of low confidence or of large weight.

Li et al., CI-SSOD, ICCV 2023. With base threshold b, running confidence c_k and class weight w_k:

    b_k = clip(min(b c_k / mean_j c_j, b / clip(w_k, 1/3, 5)), 0.5, 0.9)

The weights are clipped as where GbR uses them: solved directly, they may be negative.

The confidence of a class is a running mean of the scores s of its detections. As released, the first thousand add
s / 1000 each, so a rare class counts as unsure until then; afterwards c <- m c + (1 - m) s with momentum m.
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from alloop.training.semi_supervised.gradient_balance import HIGH as GREATEST
from alloop.training.semi_supervised.gradient_balance import LOW as LEAST

LOW, HIGH = 0.5, 0.9  # limits of a class threshold
FIRST = 1000  # number of detections of a class that are averaged plainly
MOMENTUM = 0.999  # of the exponential mean of the later ones


def class_thresholds(
    confidence: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None = None, base: float = 0.9
) -> Float[Tensor, " n"]:
    """Return the thresholds of n foreground classes.

    Args:
        confidence: c.
        weights: w, the class weights of GbR; None before their warm-up has ended.
        base: b.
    """
    mean = confidence.mean()
    thresholds = torch.full_like(confidence, base) if mean <= 0 else base * confidence / mean
    if weights is not None:
        thresholds = torch.minimum(thresholds, base / weights.clamp(LEAST, GREATEST))
    return thresholds.clamp(LOW, HIGH)


def updated_confidence(
    confidence: Float[Tensor, " n"],
    seen: Int64[Tensor, " n"],
    scores: Float[Tensor, " d"],
    labels: Int64[Tensor, " d"],
    momentum: float = MOMENTUM,
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return confidence and number of detections of each class after d more detections, in their order.

    Args:
        confidence: c before them.
        seen: number of detections before them.
        scores: of the detections.
        labels: of the detections.
        momentum: m.
    """
    same_class = torch.nn.functional.one_hot(labels, len(seen))  # [d, n]
    counts = same_class.sum(dim=0)  # [n]
    before = same_class.cumsum(dim=0).gather(1, labels[:, None])[:, 0] - 1  # [d], of the same class in this batch
    after = counts[labels] - 1 - before  # [d]
    plain = seen[labels] + before < FIRST  # [d]
    faded = (1 - momentum) * momentum ** after[~plain].to(scores) * scores[~plain]
    exponential = same_class[~plain].sum(dim=0).to(scores)  # [n], how many are averaged exponentially
    plain_sum = torch.zeros_like(confidence).index_add_(0, labels[plain], scores[plain] / FIRST)
    faded_sum = torch.zeros_like(confidence).index_add_(0, labels[~plain], faded)
    return (confidence + plain_sum) * momentum**exponential + faded_sum, seen + counts
