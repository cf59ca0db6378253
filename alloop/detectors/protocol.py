"""What a network is to the engine: one protocol that every detector implements, and one per capability.

Images are float32 `[3, h, w]` in 0..1 and may differ in size. Boxes are float32 xyxy in pixels of those images,
labels are class indices from 0. A detector with frozen layers (`FrozenFeatureDetector`) also takes what these layers
make of an image wherever it takes the image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from alloop.query import Need

LossOfWeights = Callable[[Mapping[str, Tensor]], Tensor]
"""From the weights of the last layers to the loss `[batch]` of each image."""


Module = TypeVar("Module", bound=nn.Module)
Image = Any
"""A tensor `[3, h, w]`, or its `FrozenFeatures` where the detector makes and takes them."""


@dataclass(frozen=True, slots=True)
class FrozenFeatures:
    """What the frozen layers of a detector make of one image; it stands for the image from there on.

    Attributes:
        maps: `[c, h, w]` each, in an order that the detector knows.
        shape: `(3, height, width)` of the image, as a tensor has it.
    """

    maps: tuple[Tensor, ...]
    shape: tuple[int, int, int]

    @property
    def device(self) -> torch.device:
        """Where the maps are."""
        return self.maps[0].device


class Target(TypedDict, total=False):
    """The training target of one image.

    With `posteriors` the boxes are pseudo-labels that may be wrong: classification terms become their expectation
    under the posterior, and the box and mask terms of a box are weighted by the posterior of its label. With
    `is_prediction` the boxes are the detector's own: a coordinate that equals the prediction has nothing to learn,
    where GIoU and L1 have a kink whose slope would be rounding.
    """

    boxes: Tensor  # [n, 4]
    labels: Tensor  # [n]
    masks: Tensor  # uint8 [n, h, w]
    posteriors: Tensor  # [n, k], probability of each class
    is_prediction: bool


@runtime_checkable
class Network(Protocol):
    """A trainable network of any task."""

    module: nn.Module

    def losses(self, images: list[Image], targets: Sequence[Target]) -> dict[str, Float[Tensor, " batch"]]:
        """Return each loss term split by image; the sum over terms and images is the loss of the batch.

        The module is in train mode. Sampling draws from torch's global generator.
        """


@runtime_checkable
class Classifier(Network, Protocol):
    """A network that gives an image one class."""

    def classify(self, images: list[Image]) -> Float[Tensor, "batch k"]:
        """Return the probability of each class, without gradient, and leave the mode of the module as it was."""


@runtime_checkable
class Detector(Network, Protocol):
    """A trainable detector (`Need.DETECTIONS`, also under noise)."""

    def detect(self, images: list[Image]) -> list[dict[str, Tensor]]:
        """Return the detections of each image, highest score first, and leave the mode of the module as it was.

        Keys: `boxes [n, 4]`, `scores [n]`, `labels [n]`, `probabilities [n, k]`; optional: `masks [n, h, w]`, uint8,
        and `proposals [n, 4]` (`Need.PROPOSALS`), the region that each box was regressed from.
        """


@runtime_checkable
class ScoringDetector(Detector, Protocol):
    """A detector that can be copied into a form that scores faster and cannot be trained."""

    def scoring_copy(self) -> Detector:
        """Return a copy that gives the same results but for rounding. Later changes of the weights do not reach it."""


@runtime_checkable
class PaddingDetector(Detector, Protocol):
    """A detector that pads images below and to the right, to sides that are multiples of a number of pixels.

    Images with the same padded sides can share a batch: each gets the result that it would get alone.

    Attributes:
        size_divisible: the number of pixels.
    """

    size_divisible: int


@runtime_checkable
class FrozenLayers(Protocol):
    """The first layers of a detector, which no training changes.

    Attributes:
        sha256: the hash of their weights and of what is computed with them.
    """

    sha256: str

    def __call__(self, image: Float[Tensor, "3 h w"]) -> FrozenFeatures:
        """Return the features of one image, without gradient. They depend on nothing else, not on a batch."""


@runtime_checkable
class FrozenFeatureDetector(Detector, Protocol):
    """A detector that may have frozen layers, and then takes `FrozenFeatures` wherever it takes images."""

    def frozen_layers(self) -> FrozenLayers | None:
        """Return the frozen layers with the weights of now; None where the first layers are trained."""


@runtime_checkable
class EmbeddingDetector(Network, Protocol):
    """A detector that describes an image by a vector (`Need.EMBEDDINGS`)."""

    def embed(self, images: list[Image]) -> Float[Tensor, "batch d"]:
        """Return one feature vector per image, without gradient."""


@runtime_checkable
class RegionFeatureDetector(Detector, Protocol):
    """A detector that describes a region by a vector (`Need.REGION_FEATURES`)."""

    def region_features(self, images: list[Image], boxes: list[Float[Tensor, "n 4"]]) -> list[Float[Tensor, "n d"]]:
        """Return one feature vector per box, for each image, without gradient."""


@runtime_checkable
class RegionClassifier(Detector, Protocol):
    """A detector with a second stage that classifies regions (`Need.CLASSIFIER_FEATURES`)."""

    def classifier_outputs(self, images: list[Image], boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image the classifier's input `[n, d]` and probabilities `[n, k + 1]`, background last."""


@runtime_checkable
class MaskDetector(Detector, Protocol):
    """A detector with a mask head (`Need.MASKS`)."""

    def mask_outputs(self, images: list[Image], targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image, inside the boxes of its target, mask logits and true masks.

        The logits `[n, k, m, m]` have one grid per class; the masks `[n, m, m]` are boolean.
        """


@runtime_checkable
class PyramidDetector(Network, Protocol):
    """A detector beside which a loss prediction module can be trained (`Need.LOSS_PREDICTIONS`).

    `module.backbone` returns a dict of feature maps with `out_channels` channels each, or with `widths` channels in the
    order of `levels`.
    """

    levels: tuple[str, ...]  # the feature maps that the heads read


@runtime_checkable
class CachedLosses(Protocol):
    """The features of a batch of images below the last layers, computed once and without gradient."""

    @property
    def graph_bytes(self) -> int:
        """Approximate memory of the features and of the graph of the losses' second derivatives on them."""

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:
        """Return the loss `[batch]` of each image, as if trained on alone, as a function of the last layers' weights.

        Matching and sampling are done now, the sampling of image i under `seeds[i]`.
        """


@runtime_checkable
class CachedFeatures(CachedLosses, Protocol):
    """The cached features of a detector.

    Detections and losses as functions of the last layers' weights start from here, so neither
    repeats the work of the backbone.
    """

    def detections(self) -> list[dict[str, Tensor]]:
        """Return what `Detector.detect` returns."""


@runtime_checkable
class LastLayerDetector(Network, Protocol):
    """A detector whose losses can be differentiated in its last layers (`Need.LAST_LAYERS`).

    Attributes:
        last_layers: name of each weight, with its scale in ISAL's released code.
    """

    last_layers: Mapping[str, float]

    def cached_features(self, images: list[Image]) -> CachedLosses:
        """Compute the features of images below the last layers."""


CAPABILITIES: Mapping[Need, type] = {
    Need.PREDICTIONS: Classifier,
    Need.EMBEDDINGS: EmbeddingDetector,
    Need.DETECTIONS: Detector,
    Need.NOISY_DETECTIONS: Detector,
    Need.REGION_FEATURES: RegionFeatureDetector,
    Need.CLASSIFIER_FEATURES: RegionClassifier,
    Need.MASKS: MaskDetector,
    Need.LAST_LAYERS: LastLayerDetector,
    Need.PROPOSALS: Detector,
    Need.LOSS_PREDICTIONS: PyramidDetector,
}
"""What the network of a detector implements to serve a need."""
