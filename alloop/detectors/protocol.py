"""What a detector is to the engine. Another detector is one file with a class that does this."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypedDict, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

GRAPH_TENSORS = 60  # about how many tensors of the size of the outputs the graph of a gradient holds
LossOfWeights = Callable[[Mapping[str, Tensor]], Tensor]
RegionLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(logits `[r, k + 1]`, labels `[r]`, both with the background last; weights `[r]` or None) to losses `[r]`."""


class Target(TypedDict, total=False):
    """What one training image teaches: `labels` are class indices from 0, `masks` uint8 [n, h, w].

    With `posteriors` `[n, k]` the boxes are a detector's own, believed only so far: classification
    terms become their expectation under the posterior, and the box and mask terms of a box are
    weighted by the posterior of its label. `own` says that the boxes are the detector's own: a
    coordinate that is as predicted has nothing to learn, where GIoU and L1 have a kink whose slope
    would be rounding.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor
    posteriors: Tensor
    own: bool


@runtime_checkable
class Detector(Protocol):
    """A trainable detector. Images are float32 `[3, h, w]` in 0..1; boxes are pixels of those images."""

    module: nn.Module

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Float[Tensor, " batch"]]:
        """Each loss term split by image; the sum over terms and images is the loss of the batch."""

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """`boxes [n, 4]`, `scores [n]`, `labels [n]` from 0, `probabilities [n, k]`.

        Optional: `masks [n, h, w]`; `proposals [n, 4]`, the region each box was regressed from.
        """

    def embed(self, images: list[Tensor]) -> Float[Tensor, "batch d"]:
        """One feature vector an image."""

    def region_features(self, images: list[Tensor], boxes: list[Float[Tensor, "n 4"]]) -> list[Float[Tensor, "n d"]]:
        """One feature vector a box, for each image."""


@runtime_checkable
class RegionClassifier(Detector, Protocol):
    """A detector with a second stage that classifies regions (`Need.CLASSIFIER_FEATURES`)."""

    def classifier_outputs(self, images: list[Tensor], boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each box: what the classifier sees `[n, d]` and its probabilities `[n, k + 1]`, background last."""


@runtime_checkable
class MaskDetector(Detector, Protocol):
    """A detector with a mask head (`Need.MASKS`)."""

    def mask_outputs(self, images: list[Tensor], targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        """Inside each box of a target: logits of every class `[n, k, m, m]`, and where the mask is `[n, m, m]`."""


@runtime_checkable
class CachedFeatures(Protocol):
    """A batch of images seen up to the last layers, once and without gradient.

    Detections and losses as functions of the last layers' weights start from here, so neither
    repeats the work of the backbone.
    """

    @property
    def graph_bytes(self) -> int:
        """About what the features and the graph of the losses' second derivatives on them take."""

    def detections(self) -> list[dict[str, Tensor]]:
        """What `Detector.detect` gives."""

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:
        """From the last layers' weights to the loss `[batch]` of each image trained on alone.

        Matching and sampling are done now, the sampling of image i under `seeds[i]`.
        """


@runtime_checkable
class PyramidDetector(Detector, Protocol):
    """A detector beside which a loss prediction module can be trained (`Need.LOSS_PREDICTIONS`).

    `module.backbone` gives a dict of feature maps with `out_channels` channels each.
    """

    levels: tuple[str, ...]  # the feature maps that its heads read


@runtime_checkable
class LastLayerDetector(Detector, Protocol):
    """A detector whose losses can be differentiated in its last layers (`Need.LAST_LAYERS`)."""

    last_layers: Mapping[str, float]  # name of each weight -> its scale in the released code of ISAL
    score_power: float  # what a probability is raised to before it is a score: 1/2 for a geometric mean of two

    def cached_features(self, images: list[Tensor]) -> CachedFeatures:
        """See the images up to the last layers."""


@runtime_checkable
class CachedRegions(CachedFeatures, Protocol):
    """Images seen once by a detector of two stages, which can be asked about any region of them."""

    def classified_regions(self, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Of each box: its probabilities `[n, k + 1]`, background last, and where each class moves it `[n, k, 4]`."""


class PseudoBoxes(NamedTuple):
    """What a teacher believes of one image, by how sure it has to be for each of the three losses."""

    proposals: Tensor  # [p, 4], objects to the proposal network
    boxes: Tensor  # [n, 4], objects to the classifier
    labels: Tensor  # [n]
    scores: Tensor  # [n]
    reliable: Tensor  # [m, 4], objects to the box regression
    reliable_labels: Tensor  # [m]


@runtime_checkable
class PseudoLabelDetector(Detector, Protocol):
    """A detector of two stages that can be taught by a teacher, region by region."""

    def cached_features(self, images: list[Tensor]) -> CachedRegions:
        """See the images once."""

    def region_loss_replaced(self, loss: RegionLoss) -> AbstractContextManager[None]:
        """Regions are classified by another loss than cross entropy for as long as a `with` lasts."""

    def pseudo_label_losses(
        self,
        images: list[Tensor],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, Tensor]:
        """Each loss term split by image, as `losses`, under pseudo-boxes.

        Args:
            images: as the student sees them.
            pseudo: in pixels of these images.
            background: from regions of each image to how far the teacher believes that each is background; a
                region that no pseudo-box claims counts so much.
        """
