"""Non-maximum suppression of a batch of images: of detections by class, of proposals by level of the pyramid."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
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


def best_of_levels(
    boxes: Float[Tensor, "b t 4"],
    scores: Float[Tensor, "b t"],
    valid: Bool[Tensor, "b t"],
    levels: Sequence[int],
    iou: float,
) -> list[Tensor]:
    """Return the rows of the proposals that are left in each image, the highest score first.

    Boxes are suppressed within each level of the pyramid. On the CPU that is torchvision's own suppression.

    Args:
        boxes: one level after the other, the best of each level first.
        scores: of the boxes.
        valid: False for boxes that are neither kept nor remove others.
        levels: number of boxes on each level.
        iou: the overlap with a better box above which a box is removed.
    """
    if boxes.is_cuda:
        return best_together(boxes, scores, valid, levels, iou)
    level = torch.arange(len(levels)).repeat_interleave(torch.tensor(levels)).to(boxes.device)
    there = [torch.where(own)[0] for own in valid]
    parts = zip(boxes, scores, there, strict=True)
    return [rows[batched_nms(box[rows], score[rows], level[rows], iou)] for box, score, rows in parts]


def best_together(
    boxes: Float[Tensor, "b t 4"],
    scores: Float[Tensor, "b t"],
    valid: Bool[Tensor, "b t"],
    levels: Sequence[int],
    iou: float,
) -> list[Tensor]:
    """Return what `best_of_levels` returns, for all images at once."""
    parts = (torch.split(values, list(levels), dim=1) for values in (boxes, valid))
    kept = torch.cat(_greedy([overlaps(own, own) > iou for own in next(parts)], next(parts)), dim=1)
    order = torch.where(kept, scores, -1).sort(dim=1, descending=True, stable=True).indices
    return [rows[:number] for rows, number in zip(order, kept.sum(dim=1).tolist(), strict=True)]


def _greedy(overlapping: Sequence[Tensor], valid: Sequence[Tensor]) -> list[Tensor]:
    """Return which boxes of each level greedy suppression keeps, `[b, n]` each, the best box first.

    A box is kept if no better box that is kept overlaps it. This is applied to all boxes until nothing changes: after n
    times, every box is right whose fate hangs on a chain of at most n better ones. One call of torchvision's `nms`
    would visit the boxes of all images one after the other, and compare each with those of the other images too.

    Args:
        overlapping: `[b, n, n]` for each level.
        valid: `[b, n]` for each level, the boxes that there are.
    """
    better = [pairs.triu(1) for pairs in overlapping]
    before = kept = list(valid)
    while True:
        for _ in range(STEPS):
            before = kept
            kept = [v & ~(b & k[..., None]).any(dim=1) for v, b, k in zip(valid, better, kept, strict=True)]
        if torch.equal(torch.cat(kept, dim=1), torch.cat(before, dim=1)):
            return kept
