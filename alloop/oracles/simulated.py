"""The oracle of a simulated study: the labels exist, and are revealed when they are paid for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from alloop.class_values import Truth
from alloop.values import ImageId

if TYPE_CHECKING:
    from alloop.data.splits import Split  # reading the ledger needs no splits


@dataclass(frozen=True)
class Simulated:
    """Labels of the pool that are in its annotation file already."""

    asks_people: ClassVar[bool] = False

    def connect(self, pool: "Split") -> "SimulatedOracle":
        """Return the oracle that holds the labels of the pool."""
        return SimulatedOracle(pool.dataset.annotations)


class SimulatedOracle:
    """A `RevealingOracle` that holds the hidden labels; nothing that a strategy can reach holds this oracle."""

    def __init__(self, annotations: Mapping[ImageId, Truth]) -> None:
        """Hold the annotations of every image of the pool."""
        self._annotations = annotations

    def annotate(self, image_ids: Sequence[ImageId]) -> dict[ImageId, Truth]:
        """Return the annotations of each image."""
        return {image_id: self._annotations[image_id] for image_id in image_ids}
