"""What a config names under `detector`: parameters and what the detector gives, known without building a network."""

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from alloop.query import Need

if TYPE_CHECKING:
    import alloop.detectors.protocol


@runtime_checkable
class DetectorPlugin(Protocol):
    """A dataclass whose fields are the parameters of a detector.

    Attributes:
        gives: the needs of strategies that the network serves; `alloop.detectors.protocol.CAPABILITIES` says which
            methods each of them takes.
    """

    gives: ClassVar[frozenset[Need]]

    @property
    def short_side(self) -> int:
        """Short side in pixels that images are scaled to."""

    @property
    def long_side(self) -> int:
        """Upper limit of the long side in pixels; an image that would pass it is scaled to it."""

    def build(self, classes: int) -> "alloop.detectors.protocol.Network":
        """Build the network with its initial weights.

        Random weights come from torch's global generator, which the caller seeds.

        Args:
            classes: number of classes, without the background.

        Raises:
            ConfigError: parameters that do not go together, weights that do not exist or do not fit.
        """


@runtime_checkable
class PseudoLabelPlugin(DetectorPlugin, Protocol):
    """A detector that can be trained on pseudo-labels.

    Attributes:
        classification_terms: names of those terms of the network's losses that classify. They alone are trained on
            pseudo-labels by the style `unbiased_teacher`, which does not trust the boxes.
        classifies_regions: whether the network is an `alloop.detectors.region_protocol.PseudoLabelDetector`, whose
            regions can be weighted, regressed and classified by another loss one by one.
    """

    classification_terms: ClassVar[frozenset[str]]
    classifies_regions: ClassVar[bool]


@runtime_checkable
class BalancedPlugin(DetectorPlugin, Protocol):
    """A detector whose classes can be balanced (`training.class_balance`).

    Attributes:
        balances_classes: whether the network is an `alloop.detectors.region_protocol.BalancedDetector`.
    """

    balances_classes: ClassVar[bool]
