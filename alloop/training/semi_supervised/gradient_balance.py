"""Gradient-based reweighting (GbR): class weights under which the gradients that raise and lower each logit balance.

Li et al., Gradient-based Sampling for Class Imbalanced Semi-supervised Object Detection (CI-SSOD), ICCV 2023. There are
n foreground classes, and the last index is the background. The gradient of the focal loss l = (1 - p_y)^g (-log p_y),
g = 1 or 0, of a region of class y with probabilities p raises the logit of y and lowers all others by

    f' = |dl/dp_y|,   logit y: f' p_y (1 - p_y),   logit j: f' p_y p_j
    G[i][j] = mean over regions of class i of f' p_i p_j  (i != j),   G[j][j] = -mean of f' p_j (1 - p_j)

The weights w should balance every foreground class, sum_i w_i G[i][j] = 0, with sum w = n + 1. Solved directly they may
be negative, so they are (n + 1) softmax(a) with a learned towards one Jacobi step:

    t_i = sum_{k != i} w_k G[k][i] / -G[i][i]  (i <= n),   t_{n+1} = n + 1 - sum t_i,   both clipped
    loss = mean_i (log t_i - a_i)^2
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

SCALE = 100.0  # of the matrix, as released; EPSILON fits this scale
SHIFT = 1e-5  # added to p, so that 1 / p is finite
EPSILON = 1e-6  # added to the diagonal, so that the Jacobi step is finite
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
    """Return G: the gradient of regions of each class (rows) in each logit (columns), mean over all regions, times 100.

    Args:
        logits: of each region, the background last.
        labels: class of each region.
        weights: of each region, without class weights.
        focal: exponent of the focal loss, 1 as published, 0 for cross-entropy.
    """
    regions, classes = logits.shape
    if not regions:
        return logits.new_zeros(classes, classes)
    p = logits.detach().softmax(dim=1) + SHIFT
    own = p.gather(1, labels[:, None])[:, 0]  # [r]
    other = (1 - own).clamp(min=SHIFT)  # the shift may lift p above 1, of which a fractional power is not a number
    slope = other**focal / own
    if focal:
        slope = slope - focal * other ** (focal - 1) * own.log()
    strength = slope * own if weights is None else slope * own * weights
    lowering = strength[:, None] * p  # [r, k]
    matrix = logits.new_zeros(classes, classes).index_add_(0, labels, lowering)
    raising = logits.new_zeros(classes).index_add_(0, labels, strength * (1 - own))
    matrix[range(classes), range(classes)] = -raising
    return SCALE * matrix / regions


def jacobi_step(matrix: Float[Tensor, "k k"], weights: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Return one clipped Jacobi sweep from `weights`; the background gets what is left of n + 1."""
    diagonal = matrix.diagonal()
    lowering = weights @ matrix - weights * diagonal  # sum over k != i of w_k G[k][i]
    target = lowering / (-diagonal + EPSILON)
    target = torch.cat([target[:-1], (len(weights) - target[:-1].sum())[None]])
    target = target.clamp(LOW, HIGH)
    return torch.cat([target[:-1], target[-1:].clamp(max=1.0)])


def balanced_weights(matrix: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """Solve the balanced system with sum n + 1 directly; the weights may be negative.

    Raises:
        torch.linalg.LinAlgError: the system has no single solution.
    """
    system = matrix.T.clone().double()
    system[-1] = 1.0
    right_side = system.new_zeros(len(matrix))
    right_side[-1] = len(matrix)
    solved: Tensor = torch.linalg.solve(system, right_side)
    return solved.to(matrix.dtype)


class ClassWeights(nn.Module):
    """The learned weights and the running matrix of one training; its state dict holds all of it.

    The SGD that learns the weights is written out here, so that its velocity is a part of that state.
    """

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
        """Begin with weights of 1, which stay until `warm_up` updates are done.

        Args:
            classes: n, the background not counted.
            warm_up: number of matrices that are averaged before the weights change.
            solver: `jacobi` learns positive weights by SGD; `direct` solves the balanced system.
            lr: learning rate of that SGD; its defaults are the released ones.
            momentum: of that SGD.
            weight_decay: of that SGD.
            running: momentum of the matrix after the warm-up and of the mean weight of a batch.
        """
        super().__init__()
        self.warm_up = warm_up
        self.solver = solver
        self.running = running
        self._lr = lr
        self._momentum = momentum
        self._decay = weight_decay
        self.a = nn.Parameter(torch.zeros(classes + 1))
        self.register_buffer("matrix", torch.zeros(classes + 1, classes + 1))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.register_buffer("velocity", torch.zeros(classes + 1))
        self.register_buffer("means", torch.ones(2))  # mean weight of labeled and of unlabeled regions

    @property
    def ready(self) -> bool:
        """Whether the warm-up has ended."""
        return int(self.updates) >= self.warm_up

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """The class weights `[n + 1]` with sum n + 1: (n + 1) softmax(a), or the direct solution."""
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
        """Add a matrix to the running mean, which is exponential after the warm-up.

        As released, the zeros that it starts from count as one matrix. Until they have faded every entry is smaller by
        the same factor, which changes no weight.
        """
        done = int(self.updates) + 1
        keep = done / (done + 1) if done < self.warm_up else self.running
        self.matrix.mul_(keep).add_(matrix, alpha=1 - keep)
        self.updates += 1

    def loss(self) -> Float[Tensor, ""]:
        """Return mean_i (log t_i - a_i)^2, with t one Jacobi step from the weights; 0 during the warm-up."""
        if not self.ready:
            return self.a.sum() * 0
        target = jacobi_step(self.matrix, self.weights.detach())
        return (target.log() - self.a).square().mean()

    def step(self, loss_weight: float = 1.0) -> None:
        """Take one SGD step on the loss times `loss_weight`; none during the warm-up or with the direct solver."""
        if self.solver == "direct" or not self.ready:
            return
        (slope,) = torch.autograd.grad(loss_weight * self.loss(), self.a)
        with torch.no_grad():
            self.velocity.mul_(self._momentum).add_(slope).add_(self.a, alpha=self._decay)
            self.a.sub_(self.velocity, alpha=self._lr)

    @torch.no_grad()
    def region_weights(self, labels: Int64[Tensor, " r"], exponent: float, branch: int) -> Float[Tensor, " r"]:
        """Return clip(w)_y to the power of `exponent`, divided by its running batch mean; 1 during the warm-up.

        Args:
            labels: y, the background last.
            exponent: beta, 0.5 for labeled and 1 for unlabeled regions as published.
            branch: 0 for labeled, 1 for unlabeled regions; each has its own mean.
        """
        if not self.ready or not len(labels):
            return torch.ones(len(labels), device=labels.device)
        weights = self.weights.clamp(LOW, HIGH)[labels] ** exponent
        self.means[branch] = self.running * self.means[branch] + (1 - self.running) * weights.mean()
        return weights / self.means[branch]


def focal_loss(logits: Float[Tensor, "r k"], labels: Int64[Tensor, " r"], *, focal: float = 1.0) -> Float[Tensor, " r"]:
    """Return (1 - p_y)^g (-log p_y) of each region, with p the softmax shifted by 1e-5 as in the matrix."""
    own = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0] + SHIFT
    return (1 - own).clamp(min=0) ** focal * -own.log()
