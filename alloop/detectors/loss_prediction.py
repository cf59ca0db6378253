"""Learning to predict an image's loss beside the detector (Yoo and Kweon 2019)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alloop.detectors.protocol import PyramidDetector, Target
from alloop.detectors.torchvision.parts import batch_of, evaluating, pooled_levels
from alloop.strategy import LossPrediction

NAME = "loss_prediction"  # of the submodule, of its parameters' prefix and of its loss term


class LossPredictionModule(nn.Module):
    """Global average pool, linear and ReLU for each level; one linear layer joins them to a number an image."""

    def __init__(self, levels: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.of_level = nn.ModuleList(nn.Linear(channels, hidden) for _ in range(levels))
        self.join = nn.Linear(levels * hidden, 1)

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """`[n, c, h, w]` a level to `[n]`."""
        pooled = pooled_levels(levels)
        seen = [torch.relu(layer(level)) for layer, level in zip(self.of_level, pooled, strict=True)]
        predicted: Tensor = self.join(torch.cat(seen, dim=1))[:, 0]
        return predicted


def ranking_loss(predicted: Float[Tensor, " n"], losses: Float[Tensor, " n"], margin: float) -> Float[Tensor, " n"]:
    """max(0, margin - s (l^_i - l^_j)) of the pairs (i, n-1-i), over the number of pairs; half to each image.

    s is +1 where l_i > l_j, else -1. The image in the middle of an odd batch has no partner.
    """
    pairs = len(predicted) // 2
    sign = torch.where(losses > losses.flip(0), 1.0, -1.0)[:pairs]
    apart = (predicted - predicted.flip(0))[:pairs]
    half = torch.relu(margin - sign * apart) / (2 * max(1, pairs))
    return torch.cat([half, predicted.new_zeros(len(predicted) - 2 * pairs), half.flip(0)])


class WithLossPrediction:
    """A detector and the module that learns its losses, behind the detector protocol.

    The module is a part of the detector's own, so it is averaged, saved and restored with it.
    """

    def __init__(self, detector: PyramidDetector, settings: LossPrediction) -> None:
        """Take over a built detector."""
        self._detector = detector
        self._settings = settings
        module: nn.Module = detector.module
        backbone: Any = module.get_submodule("backbone")
        module.add_module(NAME, LossPredictionModule(len(detector.levels), backbone.out_channels, settings.hidden))
        self.module: Any = module

    def __getattr__(self, name: str) -> Any:
        """Everything else is the detector's."""
        return getattr(self.__dict__["_detector"], name)

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The detector's terms and the ranking term, which teaches the module alone where it is detached."""
        maps: list[dict[str, Tensor]] = []
        hook = self.module.backbone.register_forward_hook(lambda _module, _input, output: maps.append(output))
        try:
            terms: dict[str, Tensor] = self._detector.losses(images, targets)
        finally:
            hook.remove()
        true = torch.stack(list(terms.values())).sum(dim=0).detach()
        levels = [maps[0][level] for level in self._detector.levels]
        predicted = self.module.loss_prediction([x.detach() for x in levels] if self._settings.detach else levels)
        ranking = ranking_loss(predicted.float(), true, self._settings.margin)
        return {**terms, NAME: self._settings.weight * ranking}

    def predicted_losses(self, images: list[Tensor]) -> Float[Tensor, " batch"]:
        """The expected loss of each image, up to scale and shift: only the order was learned."""
        with evaluating(self.module):
            _, features = batch_of(self.module, images)
            predicted: Tensor = self.module.loss_prediction([features[level] for level in self._detector.levels])
        return predicted

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """The detector's."""
        found: list[dict[str, Tensor]] = self._detector.detect(images)
        return found

    def embed(self, images: list[Tensor]) -> Tensor:
        """The detector's."""
        embedded: Tensor = self._detector.embed(images)
        return embedded

    def region_features(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """The detector's."""
        features: list[Tensor] = self._detector.region_features(images, boxes)
        return features
