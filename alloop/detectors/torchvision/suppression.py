"""Non-maximum suppression of a batch of images: of detections by class, of proposals by level of the pyramid."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from alloop.detectors.torchvision.sampling import overlaps

STEPS = 16  # of suppression on a GPU between two questions whether anything still changes


def suppressed(found: Mapping[str, Tensor], counts: Sequence[int], iou: float, limit: int) -> list[dict[str, Tensor]]:
    """Return what is left in each image after suppression within each class, the highest score first.

    On a GPU one call serves all images, since each call waits for the device. On a CPU there is one call an image,
    which compares fewer boxes.

    Args:
        found: by name, the boxes `[n, 4]`, scores `[n]`, labels `[n]` and other values of all images, one image after
            the other.
        counts: how many of them each image has.
        iou: the overlap with a better box above which a box is removed.
        limit: the largest number of boxes that are kept in an image.
    """
    by_image = together if found["boxes"].is_cuda else one_by_one
    kept = [rows[:limit] for rows in by_image(found, counts, iou)]
    return [{name: values[rows] for name, values in found.items()} for rows in kept]


def one_by_one(found: Mapping[str, Tensor], counts: Sequence[int], iou: float) -> list[Tensor]:
    """Return the rows that each image keeps, by one call for each image."""
    parts = (torch.split(found[name], list(counts)) for name in ("boxes", "scores", "labels"))
    starts = [sum(counts[:image]) for image in range(len(counts))]
    return [start + batched_nms(*part, iou) for start, *part in zip(starts, *parts, strict=True)]


def together(found: Mapping[str, Tensor], counts: Sequence[int], iou: float) -> list[Tensor]:
    """Return the rows that each image keeps, by one call.

    Boxes of different images and classes are moved so far apart that they do not overlap. float64 holds the moved
    float32 coordinates without rounding, so the overlaps within a class stay what they are.
    """
    boxes, labels = found["boxes"].double(), found["labels"]
    image = torch.repeat_interleave(torch.tensor(counts, device="cpu")).to(boxes.device)
    if not len(boxes):
        return [image] * len(counts)
    group = image * (labels.max() + 1) + labels
    extent = boxes.max() - boxes.min() + 1
    rows = nms(boxes + (group * extent)[:, None], found["scores"].double(), iou)
    kept = torch.bincount(image[rows], minlength=len(counts)).tolist()
    return list(rows[image[rows].argsort(stable=True)].split(kept))


def kept_by_level(boxes: Tensor, scores: Tensor, valid: Tensor, levels: Sequence[int], iou: float) -> Tensor:
    """Return which proposals `[b, t]` are left in each image after suppression within each level of the pyramid.

    Args:
        boxes: `[b, t, 4]`, one level after the other, the best of each level first.
        scores: `[b, t]`.
        valid: `[b, t]`, False for those that are neither kept nor remove others.
        levels: number of proposals on each level.
        iou: the overlap with a better box above which a box is removed.
    """
    if boxes.is_cuda:
        return levels_together(boxes, valid, levels, iou)
    level = torch.arange(len(levels)).repeat_interleave(torch.tensor(levels))
    kept = torch.zeros_like(valid)
    for image, own in enumerate(valid):
        rows = torch.where(own)[0]
        kept[image, rows[batched_nms(boxes[image, rows], scores[image, rows], level[rows], iou)]] = True
    return kept


def levels_together(boxes: Tensor, valid: Tensor, levels: Sequence[int], iou: float) -> Tensor:
    """Return what `kept_by_level` returns, for all images at once.

    A box is kept if no better box that is kept overlaps it. This is repeated for all boxes until nothing changes: after
    step n, every box is right whose fate hangs on a chain of at most n better ones. The usual algorithm for a GPU
    visits the boxes one after the other, and its memory grows with the square of the boxes of the whole batch.
    """
    better = [(overlaps(own, own) > iou).triu(1) for own in torch.split(boxes, list(levels), dim=1)]  # [b, t, t] each
    there = before = kept = torch.split(valid, list(levels), dim=1)
    while True:
        for _ in range(STEPS):
            before = kept
            kept = tuple(t & ~(b & k[..., None]).any(dim=1) for t, b, k in zip(there, better, kept, strict=True))
        if torch.equal(torch.cat(kept, dim=1), torch.cat(before, dim=1)):
            return torch.cat(kept, dim=1)
