"""The oracle of a simulated study: the labels exist and are revealed when they are paid for."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from alloop.values import Annotations, ImageId


@runtime_checkable
class Oracle(Protocol):
    """Answers questions about images; asking the same again gives the same and costs nothing."""

    def annotate(self, image_ids: Sequence[ImageId]) -> dict[ImageId, Annotations]:
        """The annotations of each image, empty ones for empty images."""


class SimulatedOracle:
    """Holds the hidden labels. Nothing that a strategy can reach holds the oracle."""

    def __init__(self, annotations: Mapping[ImageId, Annotations]) -> None:
        """Hide the labels here."""
        self._annotations = annotations

    def annotate(self, image_ids: Sequence[ImageId]) -> dict[ImageId, Annotations]:
        """Reveal."""
        return {image_id: self._annotations[image_id] for image_id in image_ids}
