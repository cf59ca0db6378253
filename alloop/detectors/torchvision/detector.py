"""What all torchvision detectors do alike: pad images, name their frozen layers, and be copied for scoring."""

import copy
from typing import Any, cast

import torch

from alloop.detectors.loaded_weights import LoadedWeights
from alloop.detectors.protocol import Detector, FrozenLayers
from alloop.detectors.torchvision.folding import fold_norms
from alloop.detectors.torchvision.frozen_layers import frozen_layers_of


class TorchvisionDetector:
    """A torchvision network; subclasses add the detector protocols.

    Attributes:
        module: the network.
        loaded_weights: what it took from a file of weights; None where no file was read.
    """

    module: Any
    loaded_weights: LoadedWeights | None = None

    @property
    def size_divisible(self) -> int:
        """Padded sides are multiples of this number of pixels."""
        pixels: int = self.module.transform.size_divisible
        return pixels

    def frozen_layers(self) -> FrozenLayers | None:
        """Return the frozen stages of the backbone; None where its first stage is trained."""
        return frozen_layers_of(self.module)

    def scoring_copy(self) -> Detector:
        """Return a copy that scores faster: norms are folded into convolutions, and channels lie last in memory."""
        result = copy.copy(self)
        result.module = fold_norms(copy.deepcopy(self.module)).to(memory_format=torch.channels_last)
        return cast("Detector", result)
