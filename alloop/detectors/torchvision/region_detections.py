"""Detections of a second stage, with the class posterior and the proposal of each."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import maskrcnn_inference

from alloop.detectors.torchvision.suppression import suppressed

SMALLEST_SIDE = 1e-2  # pixels, as in torchvision


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
    decoded = heads.box_coder.decode(deltas, list(proposals))
    detections = _detections(heads, decoded, logits, proposals, shapes)
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
    heads: Any,
    boxes: Tensor,
    logits: Tensor,
    proposals: Sequence[Tensor],
    shapes: Sequence[tuple[int, int]],
) -> list[dict[str, Tensor]]:
    """Return the detections of each image; selection, order and suppression are torchvision's own.

    Args:
        heads: torchvision's RoIHeads.
        boxes: of the proposals of all images, decoded for each class.
        logits: `[r, k + 1]`, background first.
        proposals: `[r, 4]` per image.
        shapes: (height, width) of each image.
    """
    scores, posterior = heads.reading.scores(logits), heads.reading.posterior(logits)[:, 1:]  # [r, k] both
    image = torch.repeat_interleave(torch.tensor([len(regions) for regions in proposals])).to(logits.device)
    sides = torch.tensor(shapes, dtype=boxes.dtype, device=boxes.device).flip(1).repeat(1, 2)  # [n, 4]: x, y, x, y
    boxes = boxes.reshape(*logits.shape, 4)[:, 1:]  # without a proposal torchvision leaves another shape
    boxes = torch.minimum(boxes.clamp(min=0), sides[image][:, None])
    large = (boxes[..., 2:] - boxes[..., :2] >= SMALLEST_SIDE).all(dim=2)
    row, label = torch.where((scores > heads.score_thresh) & large)
    found = {
        "boxes": boxes[row, label],
        "scores": scores[row, label],
        "labels": label + 1,
        "probabilities": posterior[row],
        "proposals": torch.cat(list(proposals))[row],
    }
    counts = torch.bincount(image[row], minlength=len(shapes)).tolist()
    return suppressed(found, counts, heads.nms_thresh, heads.detections_per_img)
