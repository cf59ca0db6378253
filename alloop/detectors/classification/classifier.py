"""A classifier behind the protocols by which the loop and the strategies see networks."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from alloop.detectors.classification.networks import StagedClassifier
from alloop.detectors.protocol import LossOfWeights, Target
from alloop.detectors.torchvision.features import evaluating, in_eval_mode

SCALE = 10_000.0  # of every weight: the one number of ISAL's released run on CIFAR


class ImageClassifier:
    """A `StagedClassifier` with its losses, probabilities, features and derivatives.

    Attributes:
        module: the network.
        levels: the stages beside which a loss prediction module is trained.
        last_layers: every weight of a convolution or linear layer, with its scale. ISAL differentiates them all.
    """

    def __init__(self, module: StagedClassifier, image_size: int | None = None) -> None:
        """Wrap a network.

        Args:
            module: the network.
            image_size: side of the square that images are scaled to; None where they all have one size.
        """
        module.image_size = image_size
        self.module: StagedClassifier = module
        self.levels = module.backbone.names
        self.last_layers = {
            f"{name}.weight": SCALE
            for name, layer in module.named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        }

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Float[Tensor, " batch"]]:
        """Return the cross entropy of each image over the number of images."""
        return {"classification": _cross_entropy(self.module(self.module.batch(images)), targets) / len(images)}

    def classify(self, images: list[Tensor]) -> Float[Tensor, "batch k"]:
        """Return the probability of each class, without gradient, and leave the mode of the module as it was."""
        return self.cached_features(images).probabilities()

    def embed(self, images: list[Tensor]) -> Float[Tensor, "batch d"]:
        """Return the features that the last layer reads, without gradient."""
        with evaluating(self.module):
            return self.module.features(self.module.batch(images))

    def cached_features(self, images: list[Tensor]) -> "CachedImages":
        """Return the images themselves: ISAL differentiates every layer, so nothing lies below the last one."""
        return CachedImages(self.module, self.module.batch(images))


class CachedImages:
    """A batch of images, whose losses are functions of all weights. It is the `CachedLosses` of a classifier."""

    def __init__(self, module: StagedClassifier, batch: Float[Tensor, "n 3 h w"]) -> None:
        self._module, self._batch = module, batch

    @property
    def graph_bytes(self) -> int:
        """Approximate memory of the graph of the losses' second derivatives: about 24 numbers for each activation."""
        cells = self._batch.shape[0] * self._batch.shape[-2] * self._batch.shape[-1]
        return 24 * 4 * cells * sum(self._module.backbone.widths)

    def logits(self, weights: Mapping[str, Tensor]) -> Float[Tensor, "n k"]:
        """Return the logits as a function of the weights of `last_layers`, batch norm with its running statistics."""
        with in_eval_mode(self._module):
            logits: Tensor = functional_call(self._module, dict(weights), (self._batch,))
        return logits.float()

    def probabilities(self) -> Float[Tensor, "n k"]:
        """Return the probability of each class, without gradient."""
        with evaluating(self._module):
            logits: Tensor = self._module(self._batch)
        return logits.float().softmax(dim=1)

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:  # noqa: ARG002  nothing is drawn
        """Return the loss of each image, as if trained on alone, as a function of the weights of `last_layers`.

        Batch norm uses its running statistics, so an image does not depend on its batch.
        """
        return lambda weights: _cross_entropy(self.logits(weights), targets)


def _cross_entropy(logits: Float[Tensor, "n k"], targets: Sequence[Target]) -> Float[Tensor, " n"]:
    """Return the cross entropy of each image; with posteriors its expectation over the classes, not over their sum.

    Source: ISAL section 3.3 (expected gradient of an unlabeled image); the released run takes one hard label.
    """
    logs = logits.float().log_softmax(dim=1)
    if any("posteriors" in target for target in targets):
        weights = torch.stack([target["posteriors"][0] for target in targets])
        return -(weights * logs).sum(dim=1)
    return functional.nll_loss(logs, torch.cat([target["labels"] for target in targets]), reduction="none")
