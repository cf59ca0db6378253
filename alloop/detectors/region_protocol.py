"""What pseudo-labels and the balance of classes need of a detector with a second stage, region by region."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from alloop.detectors.protocol import CachedFeatures, Detector, Image

RegionLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(logits `[r, k + 1]`, labels `[r]`, both with the background last; weights `[r]` or None) to losses `[r]`."""


@runtime_checkable
class CachedRegions(CachedFeatures, Protocol):
    """The features of a batch in a two-stage detector, which classify any region of the images."""

    def classified_regions(self, boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image class probabilities `[n, k + 1]`, background last, and boxes refined by class.

        The refined boxes `[n, k, 4]` are clipped to the image.
        """


class PseudoBoxes(NamedTuple):
    """Pseudo-boxes of one image, filtered separately for the proposal, classification and regression losses."""

    proposals: Tensor  # [p, 4], objects of the proposal network
    boxes: Tensor  # [n, 4], objects of the classifier
    labels: Tensor  # [n]
    scores: Tensor  # [n]
    reliable: Tensor  # [m, 4], objects of the box regression
    reliable_labels: Tensor  # [m]


@runtime_checkable
class PseudoLabelDetector(Detector, Protocol):
    """A two-stage detector that can be trained on pseudo-boxes, region by region.

    Its plug-in declares `classifies_regions`.
    """

    def cached_features(self, images: list[Image]) -> CachedRegions:
        """Compute the features of images below the last layers."""

    def region_loss_replaced(self, loss: RegionLoss) -> AbstractContextManager[None]:
        """Return a context inside which regions are classified by this loss instead of cross entropy."""

    def pseudo_label_losses(
        self,
        images: list[Image],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, Tensor]:
        """Return each loss term split by image, as `losses` does, under pseudo-boxes.

        Args:
            images: the student's views.
            pseudo: pseudo-boxes in pixels of these views.
            background: from regions `[r, 4]` of each image to the teacher's probability `[r]` that each is
                background; it weighs the loss of a region without a pseudo-box.
        """


@runtime_checkable
class BalancedDetector(Detector, Protocol):
    """A two-stage detector whose classes can be balanced; its plug-in declares `balances_classes`.

    Attributes:
        classification_layer: name of the linear layer in `module` that gives the logits `[r, k + 1]` of regions.
        background_row: the background's row of that layer; the other rows are the classes in label order.
    """

    classification_layer: str
    background_row: int

    def region_loss_replaced(self, loss: RegionLoss) -> AbstractContextManager[None]:
        """Return a context inside which regions are classified by this loss."""

    def read_logits_as_sigmoids(self) -> None:
        """Read the logits as one sigmoid each, in detections, posteriors and losses. Call it once, after building.

        The score of a class is its sigmoid times 1 - the sigmoid of the background.
        """
