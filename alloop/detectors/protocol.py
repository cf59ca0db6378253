"""What a detector is to the engine. Another detector is one file with a class that does this."""

from collections.abc import Sequence
from typing import Protocol, TypedDict, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from alloop.query import Need


class Target(TypedDict, total=False):
    """What one training image teaches: `labels` are class indices from 0, `masks` uint8 [n, h, w]."""

    boxes: Tensor
    labels: Tensor
    masks: Tensor


@runtime_checkable
class Detector(Protocol):
    """A trainable detector. Images are float32 `[3, h, w]` in 0..1; boxes are pixels of those images."""

    module: nn.Module
    gives: frozenset[Need]

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Float[Tensor, " batch"]]:
        """Each loss term split by image; the sum over terms and images is the loss of the batch."""

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """`boxes [n, 4]`, `scores [n]`, `labels [n]` from 0, `probabilities [n, k]`, optional `masks [n, h, w]`."""

    def embed(self, images: list[Tensor]) -> Float[Tensor, "batch d"]:
        """One feature vector an image."""

    def region_features(self, images: list[Tensor], boxes: list[Float[Tensor, "n 4"]]) -> list[Float[Tensor, "n d"]]:
        """One feature vector a box, for each image."""
