"""Class thresholds of pseudo-labels (GbT): lower where the teacher is unsure of a class or the class weighs much.

Li et al., CI-SSOD, ICCV 2023. With base threshold b, running confidence c_k and class weight w_k:

    b_k = clip(min(b c_k / mean_j c_j, b / w_k), 0.5, 0.9)
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

LOW, HIGH = 0.5, 0.9
FIRST, MOMENTUM = 1000, 0.999  # detections of a class averaged plainly, then exponentially


def class_thresholds(
    confidence: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None = None, base: float = 0.9
) -> Float[Tensor, " n"]:
    """The thresholds of n foreground classes; `weights` are those of GbR, left out before its warm-up has ended."""
    mean = confidence.mean()
    found = torch.full_like(confidence, base) if mean <= 0 else base * confidence / mean
    if weights is not None:
        found = torch.minimum(found, base / weights)
    return found.clamp(LOW, HIGH)


def updated_confidence(
    confidence: Float[Tensor, " n"],
    seen: Int64[Tensor, " n"],
    scores: Float[Tensor, " d"],
    labels: Int64[Tensor, " d"],
    momentum: float = MOMENTUM,
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Running confidence of each class after more detections, in their order, and how many were seen.

    As released, the first thousand detections of a class add a thousandth of their score each, so a class
    that is rarely seen counts as unsure until then.
    """
    is_of = torch.nn.functional.one_hot(labels, len(seen))  # [d, n]
    counts = is_of.sum(dim=0)
    number = seen[labels] + is_of.cumsum(dim=0).gather(1, labels[:, None])[:, 0] - 1  # of each within its class
    early = number < FIRST
    later = (counts - (FIRST - seen).clamp(min=0).minimum(counts)).to(
        scores
    )  # [n], how many are averaged exponentially
    left = ((seen + counts)[labels] - 1 - number).to(scores)  # how many of the class come after each
    first = torch.zeros_like(confidence).index_add_(0, labels[early], scores[early] / FIRST)
    faded = (1 - momentum) * momentum ** left[~early] * scores[~early]
    then = torch.zeros_like(confidence).index_add_(0, labels[~early], faded)
    return (confidence + first) * momentum**later + then, seen + counts
