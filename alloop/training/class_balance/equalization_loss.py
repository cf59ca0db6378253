"""Equalization Loss v2 (Tan et al., Equalization Loss v2, CVPR 2021, section 3).

Each logit z_j of a region is a sigmoid s_j with its own binary cross entropy. A region of class y raises z_y by the
positive gradient 1 - s_y and lowers every other z_j by the negative gradient s_j. For a rare class the negative ones
outweigh the positive ones by far. Weights that depend on their accumulated ratio g_j bring them into balance:

    f(x) = 1 / (1 + exp(-gamma (x - mu))),   q_j = 1 + alpha (1 - f(g_j)),   r_j = f(g_j)
    loss of a region = q_y (-log s_y) + sum_{j != y} r_j (-log(1 - s_j))
    g_j = sum over the regions so far of weighted positive gradients / the same of weighted negative gradients

The background is one more sigmoid, with weights of 1. It tells objects from the rest, whatever their class, and it has
no ratio. Before the first gradients all weights are 1. `alloop.detectors.torchvision.region_logits` has the score that
belongs to the loss. The weights of regions, such as those of Soft Teacher, scale their gradients in g_j as well.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from alloop.detectors.region_protocol import BalancedDetector
from alloop.training.objective import TrainingObjective
from alloop.values import ImageId

_STATE = "equalization."  # prefix of the accumulated gradients in a checkpoint


class EqualizationLoss(nn.Module):
    """The loss of regions, with the gradients that it has accumulated; its state dict holds them.

    Attributes:
        positive: `[n]`, sum of the weighted positive gradients of each class.
        negative: `[n]`, the same of the negative ones.
    """

    positive: Tensor
    negative: Tensor

    def __init__(self, classes: int, *, gamma: float = 12.0, mu: float = 0.8, alpha: float = 4.0) -> None:
        """Begin without gradients. The defaults are the published ones.

        Args:
            classes: n, the background not counted.
            gamma: slope of f.
            mu: ratio at which f is 1/2.
            alpha: most that q exceeds 1.
        """
        super().__init__()
        self._gamma, self._mu, self._alpha = gamma, mu, alpha
        self.register_buffer("positive", torch.zeros(classes))
        self.register_buffer("negative", torch.zeros(classes))

    def class_weights(self) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
        """Return q and r, the weights of positive and negative gradients, `[n + 1]` each, the background last."""
        seen = self.negative > 0
        ratio = self.positive / torch.where(seen, self.negative, 1.0)
        f = torch.where(seen, torch.sigmoid(self._gamma * (ratio - self._mu)), 1.0)
        negative = torch.cat([f, f.new_ones(1)])
        return 1 + self._alpha * (1 - negative), negative

    def forward(
        self, logits: Float[Tensor, "r k"], labels: Int64[Tensor, " r"], weights: Float[Tensor, " r"] | None
    ) -> Float[Tensor, " r"]:
        """Return the loss of each region, and accumulate its gradients for the next call.

        Args:
            logits: of each region, the background last.
            labels: y of each region.
            weights: of each region; None for 1.
        """
        logits = logits.float()
        own = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)  # `one_hot` waits for a GPU
        positive, negative = self.class_weights()
        factors = torch.where(own, positive, negative)
        if weights is not None:
            factors = factors * weights[:, None]
        self._accumulate(logits.detach(), own, factors.detach())
        losses = binary_cross_entropy_with_logits(logits, own.float(), reduction="none")
        return (factors * losses).sum(dim=1)

    def _accumulate(
        self, logits: Float[Tensor, "r k"], own: Bool[Tensor, "r k"], factors: Float[Tensor, "r k"]
    ) -> None:
        """Add the weighted gradients of regions; `own` marks the logit of each region's class."""
        gradients = factors * torch.where(own, (-logits).sigmoid(), logits.sigmoid())
        self.positive += (gradients * own).sum(dim=0)[:-1]
        self.negative += (gradients * ~own).sum(dim=0)[:-1]


class EqualizedObjective:
    """Another objective whose regions are classified by Equalization Loss v2, in labeled and unlabeled images alike."""

    def __init__(self, objective: TrainingObjective, detector: BalancedDetector, loss: EqualizationLoss) -> None:
        """Wrap an objective.

        Args:
            objective: it does not replace the region loss of the detector itself.
            detector: the one that the objective trains; its logits are read as sigmoids.
            loss: with the accumulated gradients, which become a part of the state.
        """
        self._objective, self._detector, self._loss = objective, detector, loss

    def begin(self, averaged: Mapping[str, Tensor]) -> None:
        """Begin the wrapped objective."""
        self._objective.begin(averaged)

    def __call__(self, step: int) -> tuple[dict[str, Tensor], list[ImageId]]:
        """Return the loss terms of the wrapped objective, with the other loss of regions, and the ids of the images."""
        with self._detector.region_loss_replaced(self._region_losses):
            return self._objective(step)

    def _region_losses(self, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
        """Return the losses of regions; a detector that kept the module itself would own its state."""
        losses: Tensor = self._loss(logits, labels, weights)
        return losses

    def end_step(self, step: int) -> None:
        """End the step of the wrapped objective."""
        self._objective.end_step(step)

    def state(self) -> dict[str, Tensor]:
        """Return the state of the wrapped objective and the accumulated gradients."""
        return {**self._objective.state(), **{f"{_STATE}{k}": v for k, v in self._loss.state_dict().items()}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state that `state` returned."""
        self._loss.load_state_dict({k.removeprefix(_STATE): v for k, v in state.items() if k.startswith(_STATE)})
        self._objective.restore({k: v for k, v in state.items() if not k.startswith(_STATE)})
