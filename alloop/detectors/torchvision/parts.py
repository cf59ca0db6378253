"""What the torchvision detectors share: no hidden resizing, class posteriors, pooled features."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign, batched_nms, clip_boxes_to_image

from alloop.detectors.protocol import Target

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class NormalizeOnly(GeneralizedRCNNTransform):  # type: ignore[misc]
    """torchvision's transform without its resizing: images arrive at the size they are used at."""

    def __init__(self) -> None:
        super().__init__(min_size=0, max_size=0, image_mean=list(MEAN), image_std=list(STD))

    def resize(self, image: Tensor, target: dict[str, Tensor] | None = None) -> tuple[Tensor, Any]:
        """Nothing is resized."""
        return image, target


def one_based(targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Targets for heads that keep label 0 for the background."""
    return [{**target, "labels": target["labels"] + 1} for target in targets]


def summed_by_image(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Sums of `values [f]` by the image each belongs to, `[images]`, never in less than float32."""
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    return wide.new_zeros(images).index_add(0, image, wide)


class LossSums(NamedTuple):
    """A loss term before it is divided: its sum over the samples of each image, and how many they are, `[batch]`."""

    total: Tensor
    samples: Tensor


def per_batch(terms: Mapping[str, LossSums]) -> dict[str, Tensor]:
    """Each term divided by the samples of the whole batch, as in training."""
    return {name: term.total / term.samples.sum().clamp(min=1) for name, term in terms.items()}


def per_image(terms: Mapping[str, LossSums]) -> Tensor:
    """The loss `[batch]` of each image as if it were trained on alone: divided by its own samples."""
    return torch.stack([term.total / term.samples.clamp(min=1) for term in terms.values()]).sum(dim=0)


def rows_by_image(image: Tensor, images: int) -> Tensor:
    """How many of the rows belong to each image."""
    return torch.bincount(image, minlength=images)


def with_weight(layer: nn.Module, weight: Tensor, x: Tensor) -> Tensor:
    """The output of a layer whose weight is replaced."""
    result: Tensor = torch.func.functional_call(layer, {"weight": weight}, (x,))
    return result


def of_labels(posteriors: Tensor, labels: Tensor) -> Tensor:
    """The posterior of each row's label."""
    return posteriors.gather(1, labels[:, None])[:, 0]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode and no gradients; the mode of every submodule comes back, also after an exception."""
    modes = {name: child.training for name, child in module.named_modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]


def batch_of(module: Any, images: list[Tensor]) -> tuple[ImageList, dict[str, Tensor]]:
    """Normalized, padded batch and the features of the backbone."""
    batch, _ = module.transform(images)
    features = module.backbone(batch.tensors)
    return batch, features


def pooled_levels(levels: Sequence[Tensor]) -> Tensor:
    """Mean over height and width of each level: list of `[n, c, h, w]` to `[levels, n, c]`."""
    return torch.stack([level.mean(dim=(2, 3)) for level in levels])


def pool_regions(
    module: nn.Module, levels: Sequence[str], images: list[Tensor], boxes: list[Tensor], cells: int = 7
) -> list[Tensor]:
    """RoIAlign over the pyramid, averaged over its cells: one `[n, channels]` an image."""
    with evaluating(module):
        batch, features = batch_of(module, images)
        pool = MultiScaleRoIAlign(featmap_names=list(levels), output_size=cells, sampling_ratio=2)
        pooled = pool(features, boxes, batch.image_sizes).mean(dim=(2, 3))
    return list(pooled.split([len(b) for b in boxes]))


def dense_detections(
    scores: Sequence[Tensor],
    probabilities: Sequence[Tensor],
    boxes: Sequence[Tensor],
    image_size: tuple[int, int],
    model: Any,
) -> dict[str, Tensor]:
    """Detections of one image of a dense head, with the class posterior of the place that made each.

    The same cut, order and suppression as torchvision's own: per level the best `topk_candidates`
    (place, class) pairs above `score_thresh`, then class-wise NMS, then the best `detections_per_img`.

    Args:
        scores: one `[places, k]` a level.
        probabilities: one `[places, k]` a level.
        boxes: one `[places, 4]` a level, decoded.
        image_size: (height, width) for clipping.
        model: the torchvision detector that holds the thresholds.
    """
    kept: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for level_scores, level_probabilities, level_boxes in zip(scores, probabilities, boxes, strict=True):
        flat = level_scores.flatten()
        above = torch.where(flat > model.score_thresh)[0]
        best, order = flat[above].topk(min(model.topk_candidates, above.numel()))
        pair = above[order]
        place, label = pair // level_scores.shape[-1], pair % level_scores.shape[-1]
        kept.append((level_boxes[place], best, label, level_probabilities[place]))
    all_boxes, all_scores, all_labels, all_probabilities = (torch.cat(part) for part in zip(*kept, strict=True))
    all_boxes = clip_boxes_to_image(all_boxes, image_size)
    keep = batched_nms(all_boxes, all_scores, all_labels, model.nms_thresh)[: model.detections_per_img]
    return {
        "boxes": all_boxes[keep],
        "scores": all_scores[keep],
        "labels": all_labels[keep],
        "probabilities": all_probabilities[keep],
    }
