"""FCOS and RetinaNet whose detections carry the class posterior of the location that each was made at."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.ops import clip_boxes_to_image

from alloop.detectors.torchvision.suppression import suppressed


class PosteriorFCOS(FCOS):  # type: ignore[misc]
    """FCOS whose detections carry the class posterior `sigmoid(logit)` of their location."""

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], anchors: list[list[Tensor]], image_shapes: list[tuple[int, int]]
    ) -> list[dict[str, Tensor]]:
        """Return detections whose score is class probability times centerness.

        This is the score of the paper and of mmdetection, which the thresholds of the query strategies mean.
        Torchvision takes its square root: what has score 0.1 there has 0.01 here. The score threshold is compared with
        the class probability alone, as mmdetection does.
        """
        outputs = (head_outputs[name] for name in ("cls_logits", "bbox_regression", "bbox_ctrness"))
        levels = zip(*outputs, anchors[0], strict=True)  # images of one batch have the same locations
        candidates = []
        for logits, distances, centerness, locations in levels:
            probabilities = torch.sigmoid(logits)
            scores = probabilities * torch.sigmoid(centerness)
            boxes = self.box_coder.decode(distances, locations)
            candidates.append(_candidates(scores, probabilities, boxes, self))
        return _detections(candidates, image_shapes, self)


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
        outputs = (head_outputs[name] for name in ("cls_logits", "bbox_regression"))
        levels = zip(*outputs, anchors[0], strict=True)  # images of one batch have the same anchors
        candidates = []
        for logits, deltas, of_level in levels:
            probabilities = torch.sigmoid(logits)
            repeated = of_level.repeat(len(deltas), 1)
            boxes = self.box_coder.decode_single(deltas.reshape(-1, 4), repeated).reshape(deltas.shape)
            candidates.append(_candidates(probabilities, probabilities, boxes, self))
        return _detections(candidates, image_shapes, self)


def _candidates(scores: Tensor, probabilities: Tensor, boxes: Tensor, model: Any) -> dict[str, Tensor]:
    """Return the best (location, class) pairs of one level in each image of a batch, best first.

    Pairs whose class probability is not above the score threshold get score 0 and come last. How many are above it in
    each image is asked for once, for all levels, since a GPU has to finish its work before it can answer.

    Args:
        scores: `[n, a, k]`, positive.
        probabilities: `[n, a, k]`.
        boxes: `[n, a, 4]`, decoded.
        model: the torchvision detector that holds the thresholds.
    """
    flat = torch.where(probabilities > model.score_thresh, scores, 0.0).flatten(start_dim=1)
    best, pair = flat.topk(min(model.topk_candidates, flat.shape[1]), dim=1)
    location, label = pair // scores.shape[-1], pair % scores.shape[-1]
    image = torch.arange(len(scores), device=scores.device)[:, None]
    return {
        "boxes": boxes[image, location],
        "scores": best,
        "labels": label,
        "probabilities": probabilities[image, location],
    }


def _detections(
    levels: Sequence[dict[str, Tensor]], image_shapes: Sequence[tuple[int, int]], model: Any
) -> list[dict[str, Tensor]]:
    """Return the detections of each image with the class posterior of the location that made each.

    Order and suppression are torchvision's own: per level the best `topk_candidates` (location, class) pairs, then
    class-wise NMS, then the best `detections_per_img`.

    Args:
        levels: what `_candidates` returns for each level.
        image_shapes: (height, width) of each image for clipping.
        model: the torchvision detector that holds the thresholds.
    """
    counts = torch.stack([(level["scores"] > 0).sum(dim=1) for level in levels], dim=1).tolist()
    parts: dict[str, list[Tensor]] = {key: [] for key in levels[0]}
    for image, (size, above) in enumerate(zip(image_shapes, counts, strict=True)):
        for level, count in zip(levels, above, strict=True):
            for key, values in level.items():
                part = values[image, :count]
                parts[key].append(clip_boxes_to_image(part, size) if key == "boxes" else part)
    found = {key: torch.cat(values) for key, values in parts.items()}
    return suppressed(found, [sum(above) for above in counts], model.nms_thresh, model.detections_per_img)
