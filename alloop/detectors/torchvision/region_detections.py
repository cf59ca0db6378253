"""Detections of a second stage, with the class posterior and the proposal of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softmax
from torchvision.models.detection.roi_heads import maskrcnn_inference
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes


def region_detections(
    heads: Any, features: dict[str, Tensor], proposals: Sequence[Tensor], shapes: Sequence[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    """Return the detections of each image; masks are `[n, 1, m, m]` inside their boxes.

    Args:
        heads: torchvision's RoIHeads.
        features: of the batch, by level.
        proposals: `[r, 4]` per image.
        shapes: (height, width) of each image.
    """
    vectors = heads.box_head(heads.box_roi_pool(features, proposals, shapes))
    logits, deltas = predicted_regions(heads, vectors)
    counts = [len(boxes) for boxes in proposals]
    decoded = heads.box_coder.decode(deltas, list(proposals)).split(counts)
    posterior = torch.split(softmax(logits, dim=-1), counts)
    images = zip(decoded, posterior, proposals, shapes, strict=True)
    detections = [_detections(heads, *image) for image in images]
    if heads.has_mask():
        pooled = heads.mask_roi_pool(features, [d["boxes"] for d in detections], shapes)
        logits = heads.mask_predictor(heads.mask_head(pooled))
        masks = maskrcnn_inference(logits, [d["labels"] for d in detections])
        for result, mask in zip(detections, masks, strict=True):
            result["masks"] = mask
    return detections


def predicted_regions(heads: Any, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits `[r, k + 1]` and deltas `[r, 4 (k + 1)]` of regions, in the precision of the weights.

    Under autocast the vectors are bfloat16; scores rounded so coarsely would tie.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        logits, deltas = heads.box_predictor(vectors.to(heads.box_predictor.cls_score.weight.dtype))
    return logits, deltas


def _detections(
    heads: Any, boxes: Tensor, posterior: Tensor, proposals: Tensor, shape: tuple[int, int]
) -> dict[str, Tensor]:
    """Return the detections of one image; selection, order and suppression are torchvision's own."""
    foreground = posterior[:, 1:]  # [r, k]
    row, label = torch.where(foreground > heads.score_thresh)
    scores = foreground[row, label]
    boxes = boxes.reshape(*posterior.shape, 4)  # without a proposal torchvision leaves another shape
    boxes = clip_boxes_to_image(boxes[row, label + 1], shape)
    large = remove_small_boxes(boxes, min_size=1e-2)
    boxes, scores, label, row = boxes[large], scores[large], label[large], row[large]
    keep = batched_nms(boxes, scores, label, heads.nms_thresh)[: heads.detections_per_img]
    return {
        "boxes": boxes[keep],
        "scores": scores[keep],
        "labels": label[keep] + 1,
        "probabilities": foreground[row[keep]],
        "proposals": proposals[row[keep]],
    }
