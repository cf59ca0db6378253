"""Torchvision's detectors as plug-ins: their parameters and what they give, known without importing torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from alloop.detectors.torchvision.parameters import (
    AnchorSize,
    Channels,
    PyramidTwoStageParameters,
    TorchvisionParameters,
    TwoStageParameters,
)
from alloop.errors import ConfigError
from alloop.query import Need

if TYPE_CHECKING:
    import alloop.detectors.protocol

ONE_STAGE = frozenset(
    {
        Need.EMBEDDINGS,
        Need.DETECTIONS,
        Need.NOISY_DETECTIONS,
        Need.REGION_FEATURES,
        Need.LAST_LAYERS,
        Need.LOSS_PREDICTIONS,
    }
)
TWO_STAGE = ONE_STAGE | {Need.CLASSIFIER_FEATURES, Need.PROPOSALS}


@dataclass(frozen=True, kw_only=True)
class FCOS(TorchvisionParameters):
    """FCOS (Tian et al. 2019): one anchor location per pixel of each pyramid level."""

    channels: Channels = 256
    tower_convs: Annotated[int, Field(ge=1, description="convolutions in each tower")] = 4
    variant: Annotated[
        Literal["torchvision", "isal"], Field(description="torchvision, or isal for the FCOS that ISAL was measured on")
    ] = "torchvision"
    box_start: Annotated[
        float,
        Field(
            ge=0,
            description="distances to the sides that boxes begin with, in strides. From 0, torchvision's start, some "
            "trainings never learn boxes: the head ends in a ReLU, and may be negative everywhere. Not for isal",
        ),
    ] = 0.0

    gives: ClassVar[frozenset[Need]] = ONE_STAGE
    classification_terms: ClassVar[frozenset[str]] = frozenset({"classification"})
    classifies_regions: ClassVar[bool] = False

    def build(self, classes: int) -> "alloop.detectors.protocol.Detector":
        """Build the network with its initial weights."""
        from alloop.detectors.torchvision import one_stage  # noqa: PLC0415  imports torch

        sizes = {"channels": self.channels, "tower_convs": self.tower_convs}
        if self.variant == "isal":
            if self.box_start:
                msg = (
                    "detector.box_start: the box head of variant isal ends in an exponential and needs none; remove it"
                )
                raise ConfigError(msg)
            return one_stage.build_isal_fcos(self, classes, **sizes)
        return one_stage.build_fcos(self, classes, **sizes, box_start=self.box_start)


@dataclass(frozen=True, kw_only=True)
class RetinaNet(TorchvisionParameters):
    """RetinaNet (Lin et al. 2017): anchors of three scales and three aspect ratios per location."""

    channels: Channels = 256
    anchor_size: AnchorSize = 32

    gives: ClassVar[frozenset[Need]] = ONE_STAGE
    classification_terms: ClassVar[frozenset[str]] = frozenset({"classification"})
    classifies_regions: ClassVar[bool] = False

    def build(self, classes: int) -> "alloop.detectors.protocol.Detector":
        """Build the network with its initial weights."""
        from alloop.detectors.torchvision.one_stage import build_retinanet  # noqa: PLC0415  imports torch

        return build_retinanet(self, classes, channels=self.channels, anchor_size=self.anchor_size)


@dataclass(frozen=True, kw_only=True)
class FasterRCNN(PyramidTwoStageParameters):
    """Faster R-CNN (Ren et al. 2015) over a feature pyramid."""

    gives: ClassVar[frozenset[Need]] = TWO_STAGE
    classification_terms: ClassVar[frozenset[str]] = frozenset({"loss_objectness", "loss_classifier"})
    classifies_regions: ClassVar[bool] = True
    balances_classes: ClassVar[bool] = True

    def build(self, classes: int) -> "alloop.detectors.protocol.Detector":
        """Build the network with its initial weights."""
        from alloop.detectors.torchvision.two_stage import build_faster_rcnn  # noqa: PLC0415  imports torch

        return build_faster_rcnn(self, classes)


@dataclass(frozen=True, kw_only=True)
class MaskRCNN(PyramidTwoStageParameters):
    """Mask R-CNN (He et al. 2017) over a feature pyramid."""

    gives: ClassVar[frozenset[Need]] = TWO_STAGE | {Need.MASKS}
    balances_classes: ClassVar[bool] = True

    def build(self, classes: int) -> "alloop.detectors.protocol.Detector":
        """Build the network with its initial weights."""
        from alloop.detectors.torchvision.two_stage import build_mask_rcnn  # noqa: PLC0415  imports torch

        return build_mask_rcnn(self, classes)


@dataclass(frozen=True, kw_only=True)
class FasterRCNNC4(TwoStageParameters):
    """Faster R-CNN whose second stage is the last stage of a ResNet (Ren et al. 2015; used by CSOD)."""

    gives: ClassVar[frozenset[Need]] = TWO_STAGE
    classification_terms: ClassVar[frozenset[str]] = frozenset({"loss_objectness", "loss_classifier"})
    classifies_regions: ClassVar[bool] = True
    balances_classes: ClassVar[bool] = True

    def build(self, classes: int) -> "alloop.detectors.protocol.Detector":
        """Build the network with its initial weights."""
        from alloop.detectors.torchvision.two_stage import build_faster_rcnn_c4  # noqa: PLC0415  imports torch

        return build_faster_rcnn_c4(self, classes)
