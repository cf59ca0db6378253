"""Faster R-CNN (Ren et al. 2015) and Mask R-CNN (He et al. 2017) on torchvision, with losses split by image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FasterRCNN, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.roi_heads import project_masks_on_boxes

from alloop.detectors.protocol import Detector, Image, Target
from alloop.detectors.region_protocol import CachedRegions, PseudoBoxes, RegionLoss
from alloop.detectors.torchvision.backbones import Pyramid, build_backbone, build_c4_backbone
from alloop.detectors.torchvision.cached_regions import LAST_LAYERS, CachedRegionFeatures, last_weights
from alloop.detectors.torchvision.detector import TorchvisionDetector
from alloop.detectors.torchvision.features import (
    NormalizeOnly,
    batch_of,
    evaluating,
    one_based,
    pool_regions,
    pooled_levels,
)
from alloop.detectors.torchvision.folding import absorb_frozen_norms
from alloop.detectors.torchvision.initial_weights import InitialWeights
from alloop.detectors.torchvision.loss_sums import per_batch
from alloop.detectors.torchvision.parameters import PyramidTwoStageParameters, TwoStageParameters
from alloop.detectors.torchvision.precision import WideAnchors, WideBoxCoder
from alloop.detectors.torchvision.proposal_network import PerImageRPN
from alloop.detectors.torchvision.published import refuse_other_architecture
from alloop.detectors.torchvision.region_detections import predicted_regions
from alloop.detectors.torchvision.region_heads import PerImageRoIHeads
from alloop.detectors.torchvision.region_logits import SIGMOIDS
from alloop.detectors.torchvision.region_pooling import RegionPooling
from alloop.detectors.torchvision.sampling import Truth, WaitFreeMatcher


class TwoStageDetector(TorchvisionDetector):
    """A torchvision Faster R-CNN behind the detector protocols."""

    classification_layer = "roi_heads.box_predictor.cls_score"
    background_row = 0

    def __init__(self, module: nn.Module, pyramid: Pyramid) -> None:
        """Wrap a built model; `pyramid` is its backbone."""
        self.module, self.loaded_weights = module, pyramid.initial.loaded
        self.strides = _regions_from(pyramid)
        self.levels = tuple(self.strides)
        self.last_layers = {name: LAST_LAYERS[name] for name in last_weights(module)}

    def losses(self, images: list[Image], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Return each loss term split by image; anchors and proposals are sampled from torch's generator."""
        model = self.module
        batch, features = batch_of(model, images)
        truth = Truth.of(one_based(targets))
        proposals, first = model.rpn(batch, features, truth)
        return per_batch({**model.roi_heads(features, proposals, batch.image_sizes, truth), **first})

    @contextmanager
    def region_loss_replaced(self, loss: RegionLoss) -> Iterator[None]:
        """Classify regions by another loss inside a `with`."""
        heads = self.module.roi_heads
        heads.region_loss = loss
        try:
            yield
        finally:
            heads.region_loss = None

    def read_logits_as_sigmoids(self) -> None:
        """Read the logits of a region as one sigmoid each from now on (`region_logits`)."""
        self.module.roi_heads.reading = SIGMOIDS

    def pseudo_label_losses(
        self,
        images: list[Image],
        pseudo: Sequence[PseudoBoxes],
        background: Callable[[list[Tensor]], list[Tensor]],
    ) -> dict[str, Tensor]:
        """Return the four loss terms under a teacher's pseudo-boxes (Xu et al., Soft Teacher, ICCV 2021)."""
        model = self.module
        batch, features = batch_of(model, images)
        objects = [{"boxes": p.proposals, "labels": torch.ones_like(p.proposals[:, 0])} for p in pseudo]
        proposals, first = model.rpn(batch, features, Truth.of(objects))
        second = model.roi_heads.pseudo_label_loss_sums(features, proposals, batch.image_sizes, pseudo, background)
        return per_batch({**first, **second})

    def cached_features(self, images: list[Image]) -> CachedRegions:
        """Compute the features of images below the last layers."""
        return CachedRegionFeatures(self.module, images)

    def detect(self, images: list[Image]) -> list[dict[str, Tensor]]:
        """Return the detections of each image after non-maximum suppression; masks are uint8 at image size."""
        return CachedRegionFeatures(self.module, images).detections()

    def embed(self, images: list[Image]) -> Tensor:
        """Return the mean over height and width of each pyramid level of the second stage, concatenated."""
        with evaluating(self.module):
            _, features = batch_of(self.module, images)
        pooled = pooled_levels([features[level] for level in self.levels])  # [levels, n, c]
        return pooled.transpose(0, 1).flatten(1)

    def region_features(self, images: list[Image], boxes: list[Tensor]) -> list[Tensor]:
        """Return RoIAlign over the pyramid, averaged over its cells."""
        return pool_regions(self.module, self.strides, images, boxes)

    def classifier_outputs(self, images: list[Image], boxes: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image the classifier's input and its probabilities, background last."""
        heads = self.module.roi_heads
        with evaluating(self.module):
            batch, features = batch_of(self.module, images)
            vectors = heads.box_head(heads.box_roi_pool(features, boxes, batch.image_sizes))
            logits, _ = predicted_regions(heads, vectors)
        probabilities = heads.reading.posterior(logits).roll(-1, dims=1)  # torchvision keeps the background first
        counts = [len(b) for b in boxes]
        return list(zip(torch.split(vectors, counts), torch.split(probabilities, counts), strict=True))


class MaskRCNNDetector(TwoStageDetector):
    """A torchvision Mask R-CNN behind the detector protocols."""

    def mask_outputs(self, images: list[Image], targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        """Return for each image the mask logits inside each box, one grid per class, and the true masks on it."""
        heads, boxes = self.module.roi_heads, [target["boxes"] for target in targets]
        with evaluating(self.module):
            batch, features = batch_of(self.module, images)
            pooled = heads.mask_roi_pool(features, boxes, batch.image_sizes)
            logits = heads.mask_predictor(heads.mask_head(pooled))[:, 1:]  # torchvision keeps the background first
        by_image = torch.split(logits, [len(b) for b in boxes])
        return [(part, _true_masks(target, part.shape[-1])) for target, part in zip(targets, by_image, strict=True)]


def _true_masks(target: Target, size: int) -> Tensor:
    """Return the mask inside each box of a target on a grid of `size` by `size`, boolean `[n, size, size]`."""
    boxes = target["boxes"]
    if not len(boxes):
        return boxes.new_zeros((0, size, size)) > 0.5
    rows = torch.arange(len(boxes), device=boxes.device)
    masks: Tensor = project_masks_on_boxes(target["masks"], boxes, rows, size) > 0.5
    return masks


class C4Detector(TwoStageDetector):
    """A Faster R-CNN whose second stage is the last stage of the backbone."""

    def region_features(self, images: list[Image], boxes: list[Tensor]) -> list[Tensor]:
        """Return the classifier's input of each region: the output of the last stage, averaged."""
        return [features for features, _ in self.classifier_outputs(images, boxes)]


class LastStage(nn.Module):
    """The last stage of a ResNet, averaged over the cells of a pooled region."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, regions: Tensor) -> Tensor:
        """Return `[r, d]` from pooled regions `[r, c, 14, 14]`."""
        mean: Tensor = self.stage(regions).mean(dim=(2, 3))
        return mean


def build_faster_rcnn(parameters: PyramidTwoStageParameters, classes: int) -> Detector:
    """Build a Faster R-CNN over a feature pyramid."""
    pyramid = _pyramid(parameters, "fasterrcnn_resnet50_fpn")
    model = _model(FasterRCNN, pyramid, parameters, _box_parts(parameters, pyramid, classes))
    pyramid.initial.into_detector(model, "fasterrcnn_resnet50_fpn")
    return TwoStageDetector(model, pyramid)


def build_mask_rcnn(parameters: PyramidTwoStageParameters, classes: int) -> Detector:
    """Build a Mask R-CNN over a feature pyramid; its mask branch is as wide as the pyramid.

    For the default of 256 channels that is torchvision's own width.
    """
    pyramid, channels = _pyramid(parameters, "maskrcnn_resnet50_fpn"), parameters.channels
    parts = _box_parts(parameters, pyramid, classes) | {
        "mask_roi_pool": RegionPooling(_regions_from(pyramid), 14, 2),
        "num_classes": None,
        "mask_head": MaskRCNNHeads(channels, (channels,) * 4, 1),
        "mask_predictor": MaskRCNNPredictor(channels, channels, classes + 1),
    }
    model = _model(MaskRCNN, pyramid, parameters, parts)
    pyramid.initial.into_detector(model, "maskrcnn_resnet50_fpn")
    return MaskRCNNDetector(model, pyramid)


def build_faster_rcnn_c4(parameters: TwoStageParameters, classes: int) -> Detector:
    """Build a Faster R-CNN on the fourth stage of a ResNet, with the fifth as its second stage.

    Source: Ren et al. 2015; CSOD.
    """
    initial = InitialWeights(parameters.weights, parameters.weights_sha256)
    pyramid, stage, width = build_c4_backbone(parameters.backbone, initial, parameters.trainable_stages)
    sides = tuple(int(parameters.anchor_size * 2**k) for k in range(5))
    kept = parameters.proposals
    parts: dict[str, Any] = {
        # one level gives as many candidates as the five of a pyramid: the numbers of detectron2's C4
        "rpn_pre_nms_top_n_train": 12 * kept,
        "rpn_pre_nms_top_n_test": 6 * kept,
        "rpn_post_nms_top_n_train": 2 * kept,
        "rpn_anchor_generator": WideAnchors((sides,), ((0.5, 1.0, 2.0),)),
        "box_roi_pool": RegionPooling(_regions_from(pyramid), output_size=14, sampling_ratio=2),
        "box_head": LastStage(stage),
        "box_predictor": FastRCNNPredictor(width, classes + 1),
    }
    model = _model(FasterRCNN, pyramid, parameters, parts)
    initial.into_detector(model, "fasterrcnn_resnet50_fpn")
    return C4Detector(model, pyramid)


def _pyramid(parameters: PyramidTwoStageParameters, published: str) -> Pyramid:
    initial = InitialWeights(parameters.weights, parameters.weights_sha256)
    if initial.is_published(published):
        refuse_other_architecture(published, vars(parameters))
    return build_backbone(
        parameters.backbone, initial, parameters.channels, parameters.trainable_stages, two_stage=True
    )


def _regions_from(pyramid: Pyramid) -> dict[str, int]:
    """Return the strides of the levels that regions are pooled from.

    These are all levels but the extra one, which only proposals come from.
    """
    return {level: stride for level, stride in zip(pyramid.levels, pyramid.strides, strict=True) if level != "pool"}


def _box_parts(parameters: PyramidTwoStageParameters, pyramid: Pyramid, classes: int) -> dict[str, nn.Module]:
    """Return the anchors and the second stage of a detector over a feature pyramid."""
    sides = [parameters.anchor_size * stride / pyramid.strides[0] for stride in pyramid.strides]
    one_level = len(sides) == 1
    sizes = tuple(tuple(int(s * k) for k in (1, 2, 3)) if one_level else (int(s),) for s in sides)
    return {
        "rpn_anchor_generator": WideAnchors(sizes, ((0.5, 1.0, 2.0),) * len(sizes)),
        "box_roi_pool": RegionPooling(_regions_from(pyramid), output_size=7, sampling_ratio=2),
        "box_head": TwoMLPHead(parameters.channels * 49, parameters.head_width),
        "box_predictor": FastRCNNPredictor(parameters.head_width, classes + 1),
    }


def _model(build: Any, pyramid: Pyramid, parameters: TwoStageParameters, parts: Mapping[str, Any]) -> nn.Module:
    """Build torchvision's model of these parts, without its resizing and with losses per image."""
    settings = {
        "rpn_pre_nms_top_n_train": 2 * parameters.proposals,
        "rpn_pre_nms_top_n_test": parameters.proposals,
        "rpn_post_nms_top_n_train": parameters.proposals,
        "rpn_post_nms_top_n_test": parameters.proposals,
        "rpn_batch_size_per_image": min(256, parameters.proposals),
        "box_batch_size_per_image": parameters.sampled_regions,
        "box_score_thresh": parameters.score_threshold,
        "box_nms_thresh": parameters.nms_threshold,
        "box_detections_per_img": parameters.max_detections,
    }
    model: Any = build(pyramid.module, **{**settings, **parts})
    model.transform = NormalizeOnly()
    # torchvision builds these parts inside its constructor; ours have the same fields
    model.rpn.__class__ = PerImageRPN
    model.roi_heads.__class__ = PerImageRoIHeads
    model.rpn.box_coder.__class__ = model.roi_heads.box_coder.__class__ = WideBoxCoder
    model.rpn.proposal_matcher.__class__ = model.roi_heads.proposal_matcher.__class__ = WaitFreeMatcher
    network: nn.Module = absorb_frozen_norms(model)
    return network
