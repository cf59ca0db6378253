"""The features of a batch in a one-stage detector, computed once (`protocol.CachedFeatures`)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from alloop.detectors.protocol import Image, LossOfWeights, Target
from alloop.detectors.torchvision.features import GRAPH_TENSORS, by_location, evaluating, with_weight
from alloop.detectors.torchvision.loss_sums import per_image

# the weights that influence differentiates, with the scales of ISAL's released code for FCOS
CLASSES, BOXES = "head.classification_head.cls_logits.weight", "head.regression_head.bbox_reg.weight"
CENTERNESS = "head.regression_head.bbox_ctrness.weight"
LAST_LAYERS = {CLASSES: 100.0, BOXES: 8000.0, CENTERNESS: 5000.0}


def last_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the last layers' weights of a one-stage model; RetinaNet has no centerness."""
    return {name: weight.detach() for name, weight in model.named_parameters() if name in LAST_LAYERS}


class CachedLocations:
    """The outputs of both towers of a one-stage model on every level, below the last convolutions.

    Attributes:
        class_tower: one `[batch, c, h, w]` per level.
        box_tower: one `[batch, c, h, w]` per level.
    """

    def __init__(self, model: Any, images: list[Image]) -> None:
        """Compute the features."""
        self._model, self._sizes = model, [tuple(image.shape[-2:]) for image in images]
        with evaluating(model):
            self._batch, _ = model.transform(images)
            maps = list(model.backbone(self._batch.tensors).values())
            self.class_tower = [model.head.classification_head.conv(x) for x in maps]
            self.box_tower = [model.head.regression_head.conv(x) for x in maps]
            self._anchors = model.anchor_generator(self._batch, maps)
            anchors = model.anchor_generator.num_anchors_per_location()
            self._locations = [x.shape[2] * x.shape[3] * n for x, n in zip(maps, anchors, strict=True)]

    @property
    def graph_bytes(self) -> int:
        """Memory of both towers' outputs and of a graph on the class logits."""
        logits = 4 * sum(map(len, self._anchors)) * int(self._model.head.classification_head.num_classes)
        maps = sum(int(level.nbytes) for level in (*self.class_tower, *self.box_tower))
        return maps + GRAPH_TENSORS * logits

    def _outputs(self, weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Return the outputs of the last convolutions with these weights: `[batch, locations, channels]` per level."""

        def output(name: str, tower: list[Tensor], width: int) -> list[Tensor]:
            layer = self._model.get_submodule(name.removesuffix(".weight"))
            return [by_location(with_weight(layer, weights[name], level), width) for level in tower]

        head = self._model.head
        classes = output(CLASSES, self.class_tower, head.classification_head.num_classes)
        boxes = head.box_outputs(output(BOXES, self.box_tower, 4))
        if CENTERNESS not in weights:
            return {"cls_logits": classes, "bbox_regression": boxes}
        centerness = output(CENTERNESS, head.centerness_tower(self.class_tower, self.box_tower), 1)
        return {"cls_logits": classes, "bbox_regression": boxes, "bbox_ctrness": centerness}

    def detections(self) -> list[dict[str, Tensor]]:
        """Return the detections of each image after non-maximum suppression."""
        with torch.no_grad():
            outputs = self._outputs(last_weights(self._model))
            anchors = [list(image.split(self._locations)) for image in self._anchors]
            sizes = self._batch.image_sizes
            detections = self._model.postprocess_detections(outputs, anchors, sizes)
            result: list[dict[str, Tensor]] = self._model.transform.postprocess(detections, sizes, self._sizes)
        return result

    def losses(self, targets: Sequence[Target], seeds: Sequence[int]) -> LossOfWeights:  # noqa: ARG002  nothing is drawn
        """Return the loss of each image alone, as a function of the last convolutions' weights."""
        model = self._model
        with torch.no_grad():
            goals = model.compute_loss([dict(target) for target in targets], {}, self._anchors, self._locations)

        def loss(weights: Mapping[str, Tensor]) -> Tensor:
            outputs = {name: torch.cat(levels, dim=1) for name, levels in self._outputs(weights).items()}
            return per_image(model.head.loss_sums(outputs, goals))

        return loss
