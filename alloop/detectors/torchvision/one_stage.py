"""FCOS (Tian et al. 2019) and RetinaNet (Lin et al. 2017) on torchvision, with losses split by image."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet

from alloop.detectors.protocol import GRAPH_TENSORS, CachedFeatures, Detector, LossOfWeights, Target
from alloop.detectors.torchvision.backbones import Pyramid, build_backbone
from alloop.detectors.torchvision.dense_losses import PerImageFCOSHead, PerImageRetinaNetHead
from alloop.detectors.torchvision.parameters import TorchvisionParameters
from alloop.detectors.torchvision.parts import (
    NormalizeOnly,
    dense_detections,
    evaluating,
    per_batch,
    per_image,
    pool_regions,
    pooled_levels,
    with_weight,
)

# the weights that influence differentiates, with the scales of ISAL's released code for FCOS
CLASSES, BOXES = "head.classification_head.cls_logits.weight", "head.regression_head.bbox_reg.weight"
CENTERNESS = "head.regression_head.bbox_ctrness.weight"
LAST_LAYERS = {CLASSES: 100.0, BOXES: 8000.0, CENTERNESS: 5000.0}


class PosteriorFCOS(FCOS):  # type: ignore[misc]
    """FCOS whose detections carry the class posterior `sigmoid(logit)` of their place."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Score is `sqrt(class probability x centerness)`, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            centerness = [torch.sigmoid(level[index]) for level in head_outputs["bbox_ctrness"]]
            scores = [torch.sqrt(p * c) for p, c in zip(probabilities, centerness, strict=True)]
            boxes = [
                self.box_coder.decode(level[index], places)
                for level, places in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(dense_detections(scores, probabilities, boxes, size, self))
        return detections


class PosteriorRetinaNet(RetinaNet):  # type: ignore[misc]
    """RetinaNet whose detections carry the class posterior `sigmoid(logit)` of their anchor."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        _places: list[int] | None = None,
    ) -> Any:
        """As torchvision's; takes the places of each level, as FCOS does, and needs them not."""
        return super().compute_loss(targets, head_outputs, anchors)

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Score is the class probability, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            boxes = [
                self.box_coder.decode_single(level[index], places)
                for level, places in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(dense_detections(probabilities, probabilities, boxes, size, self))
        return detections


class CachedLocations:
    """A batch up to the last convolutions: the outputs of both towers on every level."""

    def __init__(self, model: Any, images: list[Tensor]) -> None:
        """See the images once."""
        self._model, self._sizes = model, [tuple(image.shape[-2:]) for image in images]
        with evaluating(model):
            self._batch, _ = model.transform(images)
            maps = list(model.backbone(self._batch.tensors).values())
            self.class_tower = [model.head.classification_head.conv(x) for x in maps]
            self.box_tower = [model.head.regression_head.conv(x) for x in maps]
            self._anchors = model.anchor_generator(self._batch, maps)
            anchors = model.anchor_generator.num_anchors_per_location()
            self._places = [x.shape[2] * x.shape[3] * n for x, n in zip(maps, anchors, strict=True)]

    @property
    def graph_bytes(self) -> int:
        """Memory of both towers' outputs and of a graph on the class logits."""
        logits = 4 * sum(map(len, self._anchors)) * int(self._model.head.classification_head.num_classes)
        maps = sum(int(level.nbytes) for level in (*self.class_tower, *self.box_tower))
        return maps + GRAPH_TENSORS * logits

    def _outputs(self, weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """What the last convolutions say with these weights: `[batch, places, channels]` a level."""

        def said(name: str, tower: list[Tensor], width: int) -> list[Tensor]:
            layer = self._model.get_submodule(name.removesuffix(".weight"))
            return [_by_place(with_weight(layer, weights[name], level), width) for level in tower]

        classes = said(CLASSES, self.class_tower, self._model.head.classification_head.num_classes)
        boxes = said(BOXES, self.box_tower, 4)
        if CENTERNESS not in weights:
            return {"cls_logits": classes, "bbox_regression": boxes}
        reach = [torch.relu(level) for level in boxes]
        return {"cls_logits": classes, "bbox_regression": reach, "bbox_ctrness": said(CENTERNESS, self.box_tower, 1)}

    def detections(self) -> list[dict[str, Tensor]]:
        """Detections after non-maximum suppression."""
        with torch.no_grad():
            outputs = self._outputs(last_weights(self._model))
            anchors = [list(image.split(self._places)) for image in self._anchors]
            found = self._model.postprocess_detections(outputs, anchors, self._batch.image_sizes)
            result: list[dict[str, Tensor]] = self._model.transform.postprocess(
                found, self._batch.image_sizes, self._sizes
            )
        return result

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:  # noqa: ARG002  nothing is drawn
        """The loss of each image alone, as a function of the last convolutions' weights."""
        model = self._model
        with torch.no_grad():
            goals = model.compute_loss([dict(target) for target in targets], {}, self._anchors, self._places)

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            joined = {name: torch.cat(levels, dim=1) for name, levels in self._outputs(weights).items()}
            return per_image(model.head.shares(joined, goals))

        return loss


def _by_place(level: Tensor, width: int) -> Tensor:
    """`[n, anchors x width, h, w]` to `[n, h x w x anchors, width]`."""
    n, _, height, wide = level.shape
    return level.reshape(n, -1, width, height, wide).permute(0, 3, 4, 1, 2).reshape(n, -1, width)


def last_weights(model: nn.Module) -> dict[str, Tensor]:
    """The last layers' weights of a one-stage model; RetinaNet has no centerness."""
    return {name: weight.detach() for name, weight in model.named_parameters() if name in LAST_LAYERS}


class OneStageDetector:
    """A torchvision FCOS or RetinaNet behind the detector protocol."""

    def __init__(self, module: nn.Module, pyramid: Pyramid) -> None:
        """Take over a built model."""
        self.module: Any = module
        self.levels = pyramid.levels
        self.last_layers = {name: LAST_LAYERS[name] for name in last_weights(module)}
        self.score_power = 0.5 if CENTERNESS in self.last_layers else 1.0  # sqrt(class x centerness), or the class

    def losses(self, images: list[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """Each loss term split by image."""
        return per_batch(self.module(images, [dict(target) for target in targets]))

    def cached_features(self, images: list[Tensor]) -> CachedFeatures:
        """See the images up to the last convolutions."""
        return CachedLocations(self.module, images)

    def detect(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Detections after non-maximum suppression."""
        return CachedLocations(self.module, images).detections()

    def embed(self, images: list[Tensor]) -> Tensor:
        """Pooled output of the last convolution of both towers, mean over levels, classification first.

        Source: ISAL supplement section 4.2 (FCOS features for k-center).
        """
        seen = CachedLocations(self.module, images)
        return torch.cat([pooled_levels(tower).mean(dim=0) for tower in (seen.class_tower, seen.box_tower)], dim=1)

    def region_features(self, images: list[Tensor], boxes: list[Tensor]) -> list[Tensor]:
        """RoIAlign over the pyramid, averaged."""
        return pool_regions(self.module, self.levels, images, boxes)


def build_fcos(parameters: TorchvisionParameters, classes: int, *, channels: int, tower_convs: int) -> Detector:
    """Build an FCOS with one anchor location per pixel; the bounds of the levels follow from their strides."""
    pyramid = _pyramid(parameters, channels)
    locations = AnchorGenerator(tuple((stride,) for stride in pyramid.strides), ((1.0,),) * len(pyramid.strides))
    head = PerImageFCOSHead(channels, classes, tower_convs)
    model = PosteriorFCOS(pyramid.module, classes, anchor_generator=locations, head=head, **_thresholds(parameters))
    return _detector(model, pyramid)


def build_retinanet(parameters: TorchvisionParameters, classes: int, *, channels: int, anchor_size: float) -> Detector:
    """Build a RetinaNet with three scales and three aspect ratios per location."""
    pyramid = _pyramid(parameters, channels)
    sides = [anchor_size * stride / pyramid.strides[0] for stride in pyramid.strides]
    sizes = tuple(tuple(int(side * 2 ** (k / 3)) for k in range(3)) for side in sides)
    anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
    head = PerImageRetinaNetHead(channels, anchors.num_anchors_per_location()[0], classes)
    model = PosteriorRetinaNet(pyramid.module, classes, anchor_generator=anchors, head=head, **_thresholds(parameters))
    return _detector(model, pyramid)


def _pyramid(parameters: TorchvisionParameters, channels: int) -> Pyramid:
    return build_backbone(
        parameters.backbone, parameters.weights, channels, parameters.trainable_stages, two_stage=False
    )


def _thresholds(parameters: TorchvisionParameters) -> dict[str, Any]:
    return {
        "score_thresh": parameters.score_threshold,
        "nms_thresh": parameters.nms_threshold,
        "detections_per_img": parameters.max_detections,
        "topk_candidates": 1000,
    }


def _detector(model: Any, pyramid: Pyramid) -> OneStageDetector:
    model.transform = NormalizeOnly()
    return OneStageDetector(model, pyramid)
