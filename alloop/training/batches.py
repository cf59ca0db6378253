"""From stored images to training batches: decoded once, scaled once, augmented as a function of the step."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from alloop.data.images import ImageSource
from alloop.data.pixels import PixelCache, resized, scaled_size
from alloop.detectors.fitted import to_tensor
from alloop.detectors.protocol import Target
from alloop.geometry.masks import resized_mask, scaled_masks
from alloop.randomness import derive_seed, rng
from alloop.training.repeat_factors import image_repeats
from alloop.values import Annotations, ImageId


@functools.lru_cache(maxsize=4)
def _epoch_order(random_seed: int, round_: int, epoch: int, images: int) -> np.ndarray:
    """The order of one epoch; kept, since drawing it anew at every step costs time in large pools."""
    return rng(random_seed, round_, "order", epoch).permutation(images)


def batch_rows(random_seed: int, round_: int, images: int, batch_size: int, step: int) -> list[int]:
    """Rows of one step: the stream of all epochs, each in its own order, cut into full batches.

    A pure function of (seed, round, step), so training can go on at any step.
    """
    rows = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, images)
        rows.append(int(_epoch_order(random_seed, round_, epoch, images)[place]))
    return rows


def training_example(
    pixels: UInt8[np.ndarray, "h w 3"],
    boxes: Float32[np.ndarray, "n 4"],
    masks: UInt8[np.ndarray, "n h w"] | None,
    size: tuple[int, int],
    *,
    flipped: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Scale to (width, height) and flip pixels, boxes and masks together."""
    height, width = pixels.shape[:2]
    pixels = resized(pixels, *size)
    factor = np.array([size[0] / width, size[1] / height] * 2, dtype=np.float32)
    boxes = boxes * factor
    if masks is not None:
        masks = (
            np.stack([resized_mask(mask, *size) for mask in masks])
            if len(masks)
            else np.zeros((0, *size[::-1]), np.uint8)
        )
    if flipped:
        pixels = pixels[:, ::-1]
        boxes = np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], axis=1)
        masks = None if masks is None else masks[:, :, ::-1]
    return pixels, boxes, masks


class TrainingBatches:
    """Batches of one round by step number."""

    def __init__(
        self,
        cache: PixelCache,
        source: ImageSource,
        labeled: Mapping[ImageId, Annotations],
        *,
        random_seed: int,
        round_: int,
        batch_size: int,
        flip: float,
        short_sides: Sequence[int],
        long_side: int,
        with_masks: bool,
        device: torch.device,
        repeat_threshold: float | None = None,
    ) -> None:
        """Fix everything a batch depends on; image order is by id, never by purchase.

        `image_ids` are what an epoch shows; with `repeat_threshold`, images of rare classes stand there repeatedly.
        `labels` are the classes of each labeled image, once.
        """
        self.image_ids = sorted(labeled)
        self.labels = labels = [labeled[i].labels[labeled[i].trainable] for i in self.image_ids]
        if repeat_threshold is not None:
            classes = 1 + max((int(found.max(initial=0)) for found in labels), default=0)
            repeats = image_repeats(labels, classes, repeat_threshold)
            self.image_ids = [i for i, times in zip(self.image_ids, repeats, strict=True) for _ in range(times)]
        self._cache, self._source, self._labeled = cache, source, labeled
        self._seed, self._round, self._batch = random_seed, round_, batch_size
        self._flip, self._short_sides, self._long_side = flip, tuple(short_sides), long_side
        self._with_masks, self._device = with_masks, device

    @property
    def steps_an_epoch(self) -> int:
        """About how many steps show every image once."""
        return max(1, round(len(self.image_ids) / self._batch))

    def __call__(self, step: int) -> tuple[list[Tensor], list[Target], list[ImageId]]:
        """Images, targets and ids of one step."""
        rows = batch_rows(self._seed, self._round, len(self.image_ids), self._batch, step)
        ids = [self.image_ids[row] for row in rows]
        chance = rng(self._seed, self._round, "augment", step)
        pairs = [self._example(image_id, chance) for image_id in ids]
        return [image for image, _ in pairs], [target for _, target in pairs], ids

    def _example(self, image_id: ImageId, chance: np.random.Generator) -> tuple[Tensor, Target]:
        record, truth = self._source.records[image_id], self._labeled[image_id]
        keep = truth.trainable
        pixels = self._cache.read(image_id)
        width, height = pixels.shape[1], pixels.shape[0]
        to_cached = np.array([width / record.width, height / record.height] * 2, dtype=np.float32)
        size = (width, height)
        if self._short_sides:
            side = int(chance.choice(self._short_sides))
            size = scaled_size(record.width, record.height, side, self._long_side)
        masks = None
        if self._with_masks:
            raw = [mask for mask, kept in zip(truth.masks, keep, strict=True) if kept]
            masks = scaled_masks(raw, record, width, height)
        pixels, boxes, masks = training_example(
            pixels, truth.boxes[keep] * to_cached, masks, size, flipped=bool(chance.random() < self._flip)
        )
        target = Target(
            boxes=torch.from_numpy(np.ascontiguousarray(boxes)).to(self._device),
            labels=torch.from_numpy(truth.labels[keep].copy()).to(self._device),
        )
        if masks is not None:
            target["masks"] = torch.from_numpy(np.ascontiguousarray(masks)).to(self._device)
        return to_tensor(pixels, self._device), target


class UnlabeledBatches:
    """Images without labels by step number, at the size they are scored at, each as often as it is to be shown."""

    def __init__(
        self,
        cache: PixelCache,
        source: ImageSource,
        image_ids: Sequence[ImageId],
        *,
        random_seed: int,
        round_: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        """Begin with every image once an epoch."""
        self.image_ids = sorted(image_ids)
        self._row = {image_id: row for row, image_id in enumerate(self.image_ids)}
        self._cache, self._source, self._device = cache, source, device
        self._seed, self._round, self._batch = random_seed, round_, batch_size
        self.show(np.ones(len(self.image_ids), dtype=np.int64), 0)

    def show(self, repeats: Int64[np.ndarray, " n"], since: int) -> None:
        """From step `since` on, show each image so often an epoch."""
        self.repeats, self.since = repeats, since
        self._rows = np.repeat(np.arange(len(repeats)), repeats)

    def __call__(self, step: int) -> tuple[list[Tensor], list[ImageId]]:
        """Images and ids of one step."""
        seed = derive_seed(self._seed, "unlabeled", self.since)
        places = batch_rows(seed, self._round, len(self._rows), self._batch, step - self.since)
        ids = [self.image_ids[self._rows[place]] for place in places]
        return [to_tensor(self._cache.read(i), self._device) for i in ids], ids

    def row(self, image_id: ImageId) -> int:
        """The place of an image in `image_ids`."""
        return self._row[image_id]

    def scale(self, image_id: ImageId) -> Float32[np.ndarray, "4"]:
        """What a box of the image as displayed is multiplied by to be one of the image as shown."""
        record, (width, height) = self._source.records[image_id], self._cache.size(image_id)
        return np.array([width / record.width, height / record.height] * 2, dtype=np.float32)
