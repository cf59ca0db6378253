"""FCOS and RetinaNet whose detections carry the class posterior of the location that each was made at."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import batched_nms, clip_boxes_to_image


class PosteriorFCOS(FCOS):  # type: ignore[misc]
    """FCOS whose detections carry the class posterior `sigmoid(logit)` of their location."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return detections whose score is `sqrt(class probability x centerness)`, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            centerness = [torch.sigmoid(level[index]) for level in head_outputs["bbox_ctrness"]]
            scores = [torch.sqrt(p * c) for p, c in zip(probabilities, centerness, strict=True)]
            boxes = [
                self.box_coder.decode(level[index], locations)
                for level, locations in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(_detections(scores, probabilities, boxes, size, self))
        return detections


class PosteriorRetinaNet(RetinaNet):  # type: ignore[misc]
    """RetinaNet whose detections carry the class posterior `sigmoid(logit)` of their anchor."""

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        _num_anchors_per_level: list[int] | None = None,
    ) -> Any:
        """Return torchvision's result; the last argument is ignored, the signature matches that of FCOS."""
        return super().compute_loss(targets, head_outputs, anchors)

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return detections whose score is the class probability, as in torchvision."""
        detections = []
        for index, size in enumerate(image_shapes):
            probabilities = [torch.sigmoid(level[index]) for level in head_outputs["cls_logits"]]
            boxes = [
                self.box_coder.decode_single(level[index], level_anchors)
                for level, level_anchors in zip(head_outputs["bbox_regression"], anchors[index], strict=True)
            ]
            detections.append(_detections(probabilities, probabilities, boxes, size, self))
        return detections


def _detections(
    scores: Sequence[Tensor],
    probabilities: Sequence[Tensor],
    boxes: Sequence[Tensor],
    image_size: tuple[int, int],
    model: Any,
) -> dict[str, Tensor]:
    """Return the detections of one image with the class posterior of the location that made each.

    Selection, order and suppression are torchvision's own: per level the best `topk_candidates`
    (location, class) pairs above `score_thresh`, then class-wise NMS, then the best `detections_per_img`.

    Args:
        scores: one `[a, k]` per level.
        probabilities: one `[a, k]` per level.
        boxes: one `[a, 4]` per level, decoded.
        image_size: (height, width) for clipping.
        model: the torchvision detector that holds the thresholds.
    """
    levels = [_candidates(*level, model) for level in zip(scores, probabilities, boxes, strict=True)]
    candidates = {key: torch.cat([level[key] for level in levels]) for key in levels[0]}
    candidates["boxes"] = clip_boxes_to_image(candidates["boxes"], image_size)
    keep = batched_nms(candidates["boxes"], candidates["scores"], candidates["labels"], model.nms_thresh)
    keep = keep[: model.detections_per_img]
    return {key: values[keep] for key, values in candidates.items()}


def _candidates(scores: Tensor, probabilities: Tensor, boxes: Tensor, model: Any) -> dict[str, Tensor]:
    """Return the best (location, class) pairs of one level above the score threshold."""
    flat = scores.flatten()
    above = torch.where(flat > model.score_thresh)[0]
    best, order = flat[above].topk(min(model.topk_candidates, above.numel()))
    pair = above[order]
    location, label = pair // scores.shape[-1], pair % scores.shape[-1]
    return {"boxes": boxes[location], "scores": best, "labels": label, "probabilities": probabilities[location]}
