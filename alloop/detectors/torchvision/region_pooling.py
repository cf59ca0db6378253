"""RoIAlign over a pyramid, with a fast gradient on the CPU.

RoIAlign averages bilinear samples on a regular grid inside each cell of a region. The weight of a point of the map is
a product of one factor per axis, so with matrices Y `[cells, h]` and X `[cells, w]` of a region its output is Y F X^T
for every channel, and the gradient of the features is the sum over regions of Y^T G X: two matrix products, where
torchvision's own gradient visits every sample of every channel one after the other, in one thread.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import LevelMapper

# points of a feature map above which torchvision's gradient, which visits few of them for a region, is faster
LARGEST_MAP = 64 * 64


class RegionPooling(MultiScaleRoIAlign):  # type: ignore[misc]
    """Torchvision's MultiScaleRoIAlign; the outputs are its own, and the gradients are the same but for rounding.

    Torchvision guesses the strides of the levels from the first batch that it sees, and keeps the guess. It is wrong
    where an image is much smaller than its padded sides, so here the strides are given.
    """

    def __init__(self, strides: Mapping[str, int], output_size: int, sampling_ratio: int) -> None:
        """Pool from the levels whose strides are given by name, finest first."""
        super().__init__(list(strides), output_size, sampling_ratio)
        self.scales = [1 / stride for stride in strides.values()]
        finest, coarsest = (int(math.log2(stride)) for stride in (min(strides.values()), max(strides.values())))
        self.map_levels = LevelMapper(finest, coarsest, self.canonical_scale, self.canonical_level)

    def forward(self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: Sequence[tuple[int, int]]) -> Tensor:
        """Return the pooled regions `[r, c, cells, cells]` of all images; see torchvision."""
        features = [x[name] for name in self.featmap_names if name in x]
        if torch.is_grad_enabled() and all(map(_is_small, features)) and any(f.requires_grad for f in features):
            pooled: Tensor = _Pooled.apply(self, boxes, image_shapes, *features)
            return pooled
        return self.as_torchvision(x, boxes, image_shapes)

    def as_torchvision(
        self, x: Mapping[str, Tensor], boxes: list[Tensor], image_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Return what `forward` returns, with torchvision's own gradient."""
        pooled: Tensor = super().forward(x, boxes, image_shapes)
        return pooled


def _is_small(level: Tensor) -> bool:
    return level.device.type == "cpu" and level.dtype == torch.float32 and level[0, 0].numel() <= LARGEST_MAP


class _Pooled(torch.autograd.Function):
    """The pooled regions, with the gradient of the features as two matrix products a region."""

    @staticmethod
    def forward(
        ctx: Any, pool: RegionPooling, boxes: list[Tensor], shapes: Sequence[tuple[int, int]], *features: Tensor
    ) -> Tensor:
        """Return torchvision's output."""
        ctx.pool, ctx.boxes, ctx.shapes = pool, boxes, [level.shape for level in features]
        return pool.as_torchvision(dict(zip(pool.featmap_names, features, strict=True)), boxes, shapes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of each level."""
        pool, counts = ctx.pool, [len(b) for b in ctx.boxes]
        levels = pool.map_levels(ctx.boxes) if len(ctx.shapes) > 1 else torch.zeros(sum(counts))
        by_image = list(zip(ctx.boxes, torch.split(gradients[0], counts), torch.split(levels, counts), strict=True))
        results: list[Tensor | None] = [None, None, None]
        for level, (shape, scale) in enumerate(zip(ctx.shapes, pool.scales, strict=True)):
            of_level = [(b[own == level], g[own == level]) for b, g, own in by_image]
            results.append(torch.stack([_feature_gradient(b * scale, g, shape, pool) for b, g in of_level]))
        return tuple(results)


def _feature_gradient(boxes: Tensor, gradient: Tensor, shape: torch.Size, pool: RegionPooling) -> Tensor:
    """Return the sum over regions of Y^T G X, in channels-last format.

    Args:
        boxes: `[r, 4]` in cells of the feature map.
        gradient: of the output, `[r, c, cells, cells]`.
        shape: `(batch, c, h, w)` of the feature map.
        pool: says how many cells and samples there are.

    Returns:
        `[c, h, w]`.
    """
    _, channels, height, width = shape
    down, across = gradient.shape[2:]
    y = _axis_weights(boxes[:, 1], boxes[:, 3], height, down, pool.sampling_ratio)
    x = _axis_weights(boxes[:, 0], boxes[:, 2], width, across, pool.sampling_ratio)
    rows = gradient.permute(0, 3, 2, 1).reshape(len(boxes), across, down * channels)
    rows = (x.transpose(1, 2) @ rows).reshape(len(boxes), width, down, channels).transpose(1, 2)
    result = y.reshape(-1, height).T @ rows.reshape(len(boxes) * down, width * channels)
    return result.reshape(height, width, channels).permute(2, 0, 1)


def _axis_weights(low: Tensor, high: Tensor, cells_of_map: int, cells: int, samples: int) -> Tensor:
    """Return how much each cell of the map weighs in each cell of the regions, along one axis: `[r, cells, map]`.

    A sample more than one cell outside the map is 0; one at its edge takes the nearest cell.
    """
    step = (high - low).clamp(min=1.0) / (cells * samples)
    numbers = torch.arange(cells * samples, dtype=low.dtype)
    positions = low[:, None] + (numbers + 0.5) * step[:, None]
    inside = (positions >= -1) & (positions <= cells_of_map)
    distance = (positions.clamp(0, cells_of_map - 1)[..., None] - torch.arange(cells_of_map)).abs()
    weights = (1 - distance).clamp(min=0) * inside[..., None]
    return weights.reshape(len(low), cells, samples, cells_of_map).mean(dim=2)
