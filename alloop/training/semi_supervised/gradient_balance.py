"""Gradient-based reweighting (GbR): class weights under which every class is pushed as much as it is pulled.

Li et al., Gradient-based Sampling for Class Imbalanced Semi-supervised Object Detection (CI-SSOD), ICCV 2023.
n foreground classes, the last index is the background. A region of class y with probabilities p pulls its own
logit and pushes the others by the gradient of its focal loss, l = (1 - p_y)^g (-log p_y), g = 1 or 0:

    f' = |dl/dp_y|,   own logit: f' p_y (1 - p_y),   logit j: f' p_y p_j
    G[i][j] = mean over regions of class i of f' p_i p_j  (i != j),   G[j][j] = -mean of f' p_j (1 - p_j)

The weights w should balance every foreground class, sum_i w_i G[i][j] = 0, with sum w = n + 1. Solved
directly they may be negative, so they are (n + 1) softmax(a) with a learned towards one Jacobi step:

    t_i = sum_{k != i} w_k G[k][i] / -G[i][i]  (i <= n),   t_{n+1} = n + 1 - sum t_i,   both clipped
    loss = mean_i (log t_i - a_i)^2
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

SCALE = 100.0  # of the matrix, as released; epsilon below is meant for this scale
SHIFT, EPSILON = 1e-5, 1e-6  # keep 1 / p and the Jacobi step finite
LOW, HIGH = 1 / 3, 5.0  # clip of the weights; the background's upper limit is 1
MOMENTUM = 0.999  # of all running figures after the warm-up
Solver = Literal["jacobi", "direct"]


def gradient_matrix(
    logits: Float[Tensor, "r k"],
    labels: Int64[Tensor, " r"],
    weights: Float[Tensor, " r"] | None = None,
    *,
    focal: float = 1.0,
) -> Float[Tensor, "k k"]:
    """What regions of each class (rows) send to each logit (columns), mean over all regions, times 100.

    Args:
        logits: of the classification of each region, the background last.
        labels: class of each region.
        weights: of each region; class weights are not part of them.
        focal: exponent of the focal loss, 1 as published, 0 for cross-entropy.
    """
    regions, classes = logits.shape
    if not regions:
        return logits.new_zeros(classes, classes)
    p = logits.detach().softmax(dim=1) + SHIFT
    own = p.gather(1, labels[:, None])[:, 0]  # [r]
    slope = (1 - own) ** focal / own
    if focal:
        slope = slope - focal * (1 - own) ** (focal - 1) * own.log()
    strength = slope * own if weights is None else slope * own * weights
    sent = strength[:, None] * p  # [r, k]
    matrix = logits.new_zeros(classes, classes).index_add_(0, labels, sent)
    pulled = logits.new_zeros(classes).index_add_(0, labels, strength * (1 - own))
    matrix[range(classes), range(classes)] = -pulled
    return SCALE * matrix / regions


def jacobi_step(matrix: Float[Tensor, "k k"], weights: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """One Jacobi sweep from `weights`, the background taking what is left of n + 1, clipped."""
    diagonal = matrix.diagonal()
    pushed = weights @ matrix - weights * diagonal  # sum over k != i of w_k G[k][i]
    target = pushed / (-diagonal + EPSILON)
    target = torch.cat([target[:-1], (len(weights) - target[:-1].sum())[None]])
    target = target.clamp(LOW, HIGH)
    return torch.cat([target[:-1], target[-1:].clamp(max=1.0)])


def balanced_weights(matrix: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """The direct solution of the balanced system with sum n + 1; it may hold negative weights.

    Raises:
        torch.linalg.LinAlgError: the system has no single solution.
    """
    system = matrix.T.clone().double()
    system[-1] = 1.0
    right = system.new_zeros(len(matrix))
    right[-1] = len(matrix)
    solved: Tensor = torch.linalg.solve(system, right)
    return solved.to(matrix.dtype)


class ClassWeights(nn.Module):
    """The learned weights and the running matrix of one training; all of it is saved and restored with its state."""

    matrix: Tensor
    updates: Tensor
    velocity: Tensor
    means: Tensor

    def __init__(
        self,
        classes: int,
        warm_up: int,
        *,
        solver: Solver = "jacobi",
        lr: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 1e-4,
        running: float = MOMENTUM,
    ) -> None:
        """For n `classes`, with weights 1 during `warm_up` updates.

        Args:
            classes: n, the background not counted.
            warm_up: matrices that are averaged before the weights move.
            solver: `jacobi` learns positive weights by SGD; `direct` solves the balanced system.
            lr: of that SGD, as are `momentum` and `weight_decay`; the defaults are the released ones.
            momentum: see `lr`.
            weight_decay: see `lr`.
            running: momentum of the matrix after the warm-up and of the mean weight of a batch.
        """
        super().__init__()
        self.warm_up, self.solver, self.running = warm_up, solver, running
        self._lr, self._momentum, self._decay = lr, momentum, weight_decay
        self.a = nn.Parameter(torch.zeros(classes + 1))
        self.register_buffer("matrix", torch.zeros(classes + 1, classes + 1))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("velocity", torch.zeros(classes + 1))
        self.register_buffer("means", torch.ones(2))  # of the weights of labeled and of unlabeled regions

    @property
    def ready(self) -> bool:
        """Whether the warm-up has ended."""
        return int(self.updates) >= self.warm_up

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """(n + 1) softmax(a): positive, with sum n + 1. Solved directly they may be negative."""
        if self.solver == "jacobi":
            return len(self.a) * self.a.softmax(dim=0)
        if not self.ready:
            return torch.ones_like(self.a)
        try:
            solved = balanced_weights(self.matrix)
        except RuntimeError:  # torch's LinAlgError: a class that no region had yet
            return torch.ones_like(self.a)
        return solved if bool(solved.isfinite().all()) else torch.ones_like(self.a)

    def update(self, matrix: Float[Tensor, "k k"]) -> None:
        """A running mean during the warm-up, then an exponential one.

        As released, the zeros that it starts from count as one matrix; every entry is smaller by the same
        factor until they are forgotten, which changes no weight.
        """
        done = int(self.updates) + 1
        keep = done / (done + 1) if done < self.warm_up else self.running
        self.matrix.mul_(keep).add_(matrix, alpha=1 - keep)
        self.updates += 1

    def loss(self) -> Float[Tensor, ""]:
        """How far the weights are from one Jacobi step of themselves; 0 during the warm-up."""
        if not self.ready:
            return self.a.sum() * 0
        target = jacobi_step(self.matrix, self.weights.detach())
        return (target.log() - self.a).square().mean()

    def step(self, loss_weight: float = 1.0) -> None:
        """One step of SGD on so many times the loss; nothing where the system is solved directly or not yet known."""
        if self.solver == "direct" or not self.ready:
            return
        (slope,) = torch.autograd.grad(loss_weight * self.loss(), self.a)
        with torch.no_grad():
            self.velocity.mul_(self._momentum).add_(slope).add_(self.a, alpha=self._decay)
            self.a.sub_(self.velocity, alpha=self._lr)

    @torch.no_grad()
    def of_regions(self, labels: Int64[Tensor, " r"], exponent: float, branch: int) -> Float[Tensor, " r"]:
        """clip(w)_y to the power of `exponent`, over its running batch mean; 1 during the warm-up.

        Args:
            labels: y, the background last.
            exponent: beta, 0.5 for labeled and 1 for unlabeled regions as published.
            branch: 0 for labeled, 1 for unlabeled regions; each has a mean of its own.
        """
        if not self.ready or not len(labels):
            return torch.ones(len(labels), device=labels.device)
        found = self.weights.clamp(LOW, HIGH)[labels] ** exponent
        self.means[branch] = self.running * self.means[branch] + (1 - self.running) * found.mean()
        return found / self.means[branch]


def focal_loss(logits: Float[Tensor, "r k"], labels: Int64[Tensor, " r"], *, focal: float = 1.0) -> Float[Tensor, " r"]:
    """(1 - p_y)^g (-log p_y) of each region, p the softmax and shifted by 1e-5 as in the matrix."""
    own = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0] + SHIFT
    return (1 - own).clamp(min=0) ** focal * -own.log()
