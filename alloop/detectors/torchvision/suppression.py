"""Class-wise non-maximum suppression of a batch of images."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms


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
