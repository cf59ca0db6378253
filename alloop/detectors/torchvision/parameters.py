"""Parameters that several torchvision detectors share."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Channels = Annotated[int, Field(ge=32, multiple_of=32, description="width of the feature pyramid")]
AnchorSize = Annotated[float, Field(gt=0, description="anchor side in pixels on the finest level")]


@dataclass(frozen=True, kw_only=True)
class TorchvisionParameters:
    """The backbone, the size that images are scaled to, and which detections are kept."""

    backbone: Annotated[
        str,
        Field(
            description="tiny, or a classifier of torchvision: mobilenet_*, resnet*, resnext*, wide_resnet*, "
            "convnext_*, densenet*, efficientnet_*, regnet_*, shufflenet_*; or efficientnet_lite0"
        ),
    ] = "mobilenet_v2"
    weights: Annotated[
        str,
        Field(
            description="none, imagenet, coco (whole detector), digits (tiny only), or a file (.safetensors, .pth, "
            ".pt) of a backbone or of a whole detector"
        ),
    ] = "imagenet"
    weights_sha256: Annotated[
        str | None,
        Field(
            pattern=r"^[0-9a-fA-F]{64}$",
            description="the sha256 that the file of `weights` must have; a .pth or .pt file that torchvision does not "
            "publish is opened only with it",
        ),
    ] = None
    trainable_stages: Annotated[
        int | None, Field(ge=0, description="number of last backbone stages to train; null for all but two")
    ] = None
    short_side: Annotated[int, Field(ge=16, description="images are scaled to this short side in pixels")] = 800
    long_side: Annotated[int, Field(ge=16, description="upper limit of the long side in pixels")] = 1333
    score_threshold: Annotated[
        float, Field(ge=0, lt=1, description="detections whose class is less probable are dropped")
    ] = 0.05
    nms_threshold: Annotated[float, Field(gt=0, le=1, description="IoU of non-maximum suppression")] = 0.5
    max_detections: Annotated[int, Field(ge=1, description="detections kept per image")] = 100


@dataclass(frozen=True, kw_only=True)
class TwoStageParameters(TorchvisionParameters):
    """Anchors and regions of a two-stage detector."""

    anchor_size: AnchorSize = 32
    proposals: Annotated[int, Field(ge=10, description="region proposals kept per image")] = 1000
    sampled_regions: Annotated[int, Field(ge=4, description="regions sampled per image in training")] = 512


@dataclass(frozen=True, kw_only=True)
class PyramidTwoStageParameters(TwoStageParameters):
    """The widths of a two-stage detector over a feature pyramid."""

    channels: Channels = 256
    head_width: Annotated[int, Field(ge=8, description="width of the second stage")] = 1024
