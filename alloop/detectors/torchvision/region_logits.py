"""How the k + 1 logits of a region, the background first, are read: by one softmax, or by one sigmoid each.

Softmax (Ren et al., Faster R-CNN, 2015), p = softmax(z):

    score of class c: p_c,   posterior: p,   loss: -log p_y

Sigmoids (Tan et al., Equalization Loss v2, CVPR 2021), s = sigmoid(z), b = s of the background:

    score of class c: s_c (1 - b),   loss: sum over all k + 1 logits of the binary cross entropy

The scores of sigmoids need not sum to 1 - b. Parts that need one distribution over classes and background get this
posterior, which is not of the paper. The region is background with probability b, and otherwise of one class:

    posterior: b,   (1 - b) s_c / sum_j s_j
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, logsigmoid


class LogitReading(NamedTuple):
    """The three functions of the logits `[r, k + 1]` of regions."""

    scores: Callable[[Tensor], Tensor]  # to [r, k]
    posterior: Callable[[Tensor], Tensor]  # to [r, k + 1]; each row sums to 1
    losses: Callable[[Tensor, Tensor], Tensor]  # with labels [r] or probabilities [r, k + 1], to [r]


def _softmax(logits: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    return logits.softmax(dim=-1)


def _softmax_scores(logits: Float[Tensor, "r k"]) -> Float[Tensor, "r classes"]:
    return logits.softmax(dim=-1)[:, 1:]


def _cross_entropies(logits: Float[Tensor, "r k"], targets: Tensor) -> Float[Tensor, " r"]:
    return cross_entropy(logits, targets, reduction="none")


def _sigmoid_scores(logits: Float[Tensor, "r k"]) -> Float[Tensor, "r classes"]:
    return logits[:, 1:].sigmoid() * (-logits[:, :1]).sigmoid()


def _sigmoid_posterior(logits: Float[Tensor, "r k"]) -> Float[Tensor, "r k"]:
    shares = logsigmoid(logits[:, 1:]).softmax(dim=1)  # the sum of the sigmoids themselves may be 0
    return torch.cat([logits[:, :1].sigmoid(), shares * (-logits[:, :1]).sigmoid()], dim=1)


def _binary_cross_entropies(logits: Float[Tensor, "r k"], targets: Tensor) -> Float[Tensor, " r"]:
    if targets.ndim == 1:
        targets = targets[:, None] == torch.arange(logits.shape[1], device=targets.device)  # `one_hot` waits for a GPU
    return binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(dim=1)


SOFTMAX = LogitReading(_softmax_scores, _softmax, _cross_entropies)
SIGMOIDS = LogitReading(_sigmoid_scores, _sigmoid_posterior, _binary_cross_entropies)
