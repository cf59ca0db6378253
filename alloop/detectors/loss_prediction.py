"""Learning to predict an image's loss beside the detector (Yoo and Kweon 2019).

The module is a submodule of the network, so it is averaged, saved and restored with it; the detector stays the object
it was.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alloop.detectors.protocol import Image, Network, PyramidDetector, Target
from alloop.detectors.torchvision.features import batch_of, evaluating
from alloop.strategy import LossPrediction

NAME = "loss_prediction"  # of the submodule, of its parameters' prefix and of its loss term


class LossPredictionModule(nn.Module):
    """Predicts one loss per image from the feature pyramid.

    Each level is pooled and passes one linear layer and ReLU; a last linear layer joins the levels.
    """

    def __init__(self, widths: Sequence[int], settings: LossPrediction) -> None:
        super().__init__()
        self.of_level = nn.ModuleList(nn.Linear(width, settings.hidden) for width in widths)
        self.join = nn.Linear(len(widths) * settings.hidden, 1)
        self.settings = settings

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Return the predicted losses `[n]` from one `[n, c, h, w]` per level."""
        pooled = [level.mean(dim=(2, 3)) for level in levels]
        hidden = [torch.relu(layer(level)) for layer, level in zip(self.of_level, pooled, strict=True)]
        predicted: Tensor = self.join(torch.cat(hidden, dim=1))[:, 0]
        return predicted

    def loss(self, levels: Sequence[Tensor], losses: Float[Tensor, " n"], share: float = 1.0) -> Float[Tensor, " n"]:
        """Return the weighted ranking loss per image.

        Args:
            levels: one `[n, c, h, w]` per level; no gradient reaches them where the settings detach the module.
            losses: what is to be predicted.
            share: how much of the training is done, from 0 to 1.
        """
        detached = self.settings.detach and share >= self.settings.detach_from
        predicted = self([level.detach() for level in levels] if detached else levels)
        return self.settings.weight * ranking_loss(predicted.float(), losses, self.settings.margin)


def ranking_loss(predicted: Float[Tensor, " n"], losses: Float[Tensor, " n"], margin: float) -> Float[Tensor, " n"]:
    """Return max(0, margin - s (l^_i - l^_j)) of the pairs (i, n-1-i) over their number, half of it to each image.

    s is +1 where l_i > l_j, else -1. The image in the middle of an odd batch has no partner.
    """
    pairs = len(predicted) // 2
    sign = torch.where(losses > losses.flip(0), 1.0, -1.0)[:pairs]
    difference = (predicted - predicted.flip(0))[:pairs]
    half = torch.relu(margin - sign * difference) / (2 * max(1, pairs))
    return torch.cat([half, predicted.new_zeros(len(predicted) - 2 * pairs), half.flip(0)])


def attach_module(detector: PyramidDetector, settings: LossPrediction) -> None:
    """Add a loss prediction module to a network; its initial weights come from torch's generator."""
    backbone: Any = detector.module.get_submodule("backbone")
    widths = getattr(backbone, "widths", None) or [backbone.out_channels] * len(detector.levels)
    module = LossPredictionModule(widths, settings)
    detector.module.add_module(NAME, module)


def attached_module(detector: Network) -> LossPredictionModule | None:
    """Return the loss prediction module that was added to a network, None where there is none."""
    children = dict(detector.module.named_children())
    module = children.get(NAME)
    return module if isinstance(module, LossPredictionModule) else None


def training_losses(
    detector: Network, images: list[Image], targets: Sequence[Target], share: float = 1.0
) -> dict[str, Tensor]:
    """Return the detector's loss terms, and the ranking loss of its loss prediction module where it has one.

    The module sees the features that the detector computes for its own losses; `share` of the training is done.
    """
    module = attached_module(detector)
    if module is None or not isinstance(detector, PyramidDetector):
        return detector.losses(images, targets)
    maps: list[dict[str, Tensor]] = []
    backbone = detector.module.get_submodule("backbone")
    hook = backbone.register_forward_hook(lambda _module, _input, output: maps.append(output))
    try:
        terms = detector.losses(images, targets)
    finally:
        hook.remove()
    image_losses = torch.stack(list(terms.values())).sum(dim=0).detach()
    return {**terms, NAME: module.loss([maps[0][level] for level in detector.levels], image_losses, share)}


def predicted_losses(detector: PyramidDetector, images: list[Image]) -> Float[Tensor, " batch"]:
    """Return the predicted loss of each image, up to scale and shift: only the order was learned."""
    module: Any = detector.module
    with evaluating(module):
        _, features = batch_of(module, images)
        predicted: Tensor = module.get_submodule(NAME)([features[level] for level in detector.levels])
    return predicted
