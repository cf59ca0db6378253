"""FCOS (Tian et al. 2019) and RetinaNet (Lin et al. 2017) on torchvision, with losses split by image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alloop.detectors.protocol import CachedFeatures, Detector, Image, Target
from alloop.detectors.torchvision.backbones import Pyramid, build_backbone
from alloop.detectors.torchvision.cached_locations import LAST_LAYERS, CachedLocations, last_weights
from alloop.detectors.torchvision.detector import TorchvisionDetector
from alloop.detectors.torchvision.features import NormalizeOnly, batch_of, pool_regions, pooled_levels
from alloop.detectors.torchvision.folding import absorb_frozen_norms
from alloop.detectors.torchvision.initial_weights import InitialWeights
from alloop.detectors.torchvision.isal_fcos import CellCentres, IsalFCOS, IsalFCOSHead
from alloop.detectors.torchvision.loss_sums import per_batch
from alloop.detectors.torchvision.one_stage_losses import PerImageFCOSHead, PerImageRetinaNetHead
from alloop.detectors.torchvision.one_stage_models import PosteriorFCOS, PosteriorRetinaNet
from alloop.detectors.torchvision.parameters import TorchvisionParameters
from alloop.detectors.torchvision.precision import WideAnchors, WideBoxCoder, WideLinearCoder
from alloop.detectors.torchvision.published import refuse_other_architecture
from alloop.detectors.torchvision.sampling import WaitFreeMatcher


class OneStageDetector(TorchvisionDetector):
    """A torchvision FCOS or RetinaNet behind the detector protocols."""

    def __init__(self, module: nn.Module, pyramid: Pyramid) -> None:
        """Wrap a built model; `pyramid` is its backbone."""
        self.module, self.loaded_weights = module, pyramid.initial.loaded
        self.levels = pyramid.levels
        self.strides = dict(zip(pyramid.levels, pyramid.strides, strict=True))
        self.last_layers = {name: LAST_LAYERS[name] for name in last_weights(module)}

    def losses(self, images: list[Image], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return each loss term split by image."""
        model = self.module
        batch, features = batch_of(model, images)
        maps = list(features.values())
        anchors = model.anchor_generator(batch, maps)
        per_location = model.anchor_generator.num_anchors_per_location()
        counts = [x.shape[2] * x.shape[3] * n for x, n in zip(maps, per_location, strict=True)]
        return per_batch(model.compute_loss([dict(target) for target in targets], model.head(maps), anchors, counts))

    def cached_features(self, images: list[Image]) -> CachedFeatures:
        """Compute the features of images below the last convolutions."""
        return CachedLocations(self.module, images)

    def detect(self, images: list[Image]) -> list[dict[str, Tensor]]:
        """Return the detections of each image after non-maximum suppression."""
        return CachedLocations(self.module, images).detections()

    def embed(self, images: list[Image]) -> Tensor:
        """Return the pooled outputs of both towers, mean over levels, those of the classification first.

        Source: ISAL supplement section 4.2 (FCOS features for k-center).
        """
        cached = CachedLocations(self.module, images)
        towers = (cached.class_tower, cached.box_tower)
        return torch.cat([pooled_levels(tower).mean(dim=0) for tower in towers], dim=1)

    def region_features(self, images: list[Image], boxes: list[Tensor]) -> list[Tensor]:
        """Return RoIAlign over the pyramid, averaged over its cells."""
        return pool_regions(self.module, self.strides, images, boxes)


def build_fcos(
    parameters: TorchvisionParameters, classes: int, *, channels: int, tower_convs: int, box_start: float = 0.0
) -> Detector:
    """Build an FCOS with one anchor location per pixel; the bounds of the levels follow from their strides."""
    architecture = {"variant": "torchvision", "channels": channels, "tower_convs": tower_convs}
    pyramid = _pyramid(parameters, "fcos_resnet50_fpn", architecture)
    locations = WideAnchors(tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides))
    head = PerImageFCOSHead(channels, classes, tower_convs)
    torch.nn.init.constant_(head.regression_head.bbox_reg.bias, box_start)
    model = PosteriorFCOS(pyramid.module, classes, anchor_generator=locations, head=head, **_thresholds(parameters))
    model.box_coder.__class__ = WideLinearCoder
    return _detector(model, pyramid, "fcos_resnet50_fpn")


def build_isal_fcos(parameters: TorchvisionParameters, classes: int, *, channels: int, tower_convs: int) -> Detector:
    """Build the FCOS on which ISAL was measured."""
    architecture = {"variant": "isal", "channels": channels, "tower_convs": tower_convs}
    pyramid = _pyramid(parameters, "fcos_resnet50_fpn", architecture)
    locations = CellCentres(tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides))
    head = IsalFCOSHead(channels, classes, tower_convs, len(pyramid.strides))
    model = IsalFCOS(pyramid.module, classes, anchor_generator=locations, head=head, **_thresholds(parameters))
    model.box_coder = head.box_coder
    return _detector(model, pyramid, "fcos_resnet50_fpn")


def build_retinanet(parameters: TorchvisionParameters, classes: int, *, channels: int, anchor_size: float) -> Detector:
    """Build a RetinaNet with three scales and three aspect ratios per location."""
    architecture = {"channels": channels, "anchor_size": anchor_size}
    pyramid = _pyramid(parameters, "retinanet_resnet50_fpn", architecture)
    sides = [anchor_size * stride / pyramid.strides[0] for stride in pyramid.strides]
    sizes = tuple(tuple(int(side * 2 ** (k / 3)) for k in range(3)) for side in sides)
    anchors = WideAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = PerImageRetinaNetHead(channels, anchors.num_anchors_per_location()[0], classes)
    model = PosteriorRetinaNet(pyramid.module, classes, anchor_generator=anchors, head=head, **_thresholds(parameters))
    model.box_coder.__class__, model.proposal_matcher.__class__ = WideBoxCoder, WaitFreeMatcher
    return _detector(model, pyramid, "retinanet_resnet50_fpn")


def _pyramid(parameters: TorchvisionParameters, published: str, architecture: dict[str, Any]) -> Pyramid:
    initial = InitialWeights(parameters.weights, parameters.weights_sha256)
    if initial.is_published(published):
        refuse_other_architecture(published, {"backbone": parameters.backbone, **architecture})
    channels: int = architecture["channels"]
    return build_backbone(parameters.backbone, initial, channels, parameters.trainable_stages, two_stage=False)


def _thresholds(parameters: TorchvisionParameters) -> dict[str, Any]:
    return {
        "score_thresh": parameters.score_threshold,
        "nms_thresh": parameters.nms_threshold,
        "detections_per_img": parameters.max_detections,
        "topk_candidates": 1000,
    }


def _detector(model: Any, pyramid: Pyramid, published: str) -> OneStageDetector:
    """Load the weights of the whole detector where they are known, and wrap it."""
    pyramid.initial.into_detector(model, published)
    model.transform = NormalizeOnly()
    return OneStageDetector(absorb_frozen_norms(model), pyramid)
