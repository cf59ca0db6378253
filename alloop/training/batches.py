"""From stored images to training batches: decoded once, scaled once, augmented as a function of the step."""

import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image as PillowImage
from torch import Tensor

from alloop.data.images import ImageSource
from alloop.data.masks import decode_masks
from alloop.detectors.protocol import Target
from alloop.randomness import rng
from alloop.values import Annotations, ImageId


def scaled_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """(width, height) after scaling to the short side, or to the long side where that would be passed."""
    scale = min(short_side / min(width, height), long_side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(pixels: UInt8[np.ndarray, "h w 3"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Bilinear with antialiasing."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(PillowImage.fromarray(pixels).resize((width, height), PillowImage.Resampling.BILINEAR))


class PixelCache:
    """Images at the size they are trained or scored at, each decoded once.

    The pixels lie in an unnamed scratch file, so the page cache decides how much of it stays in
    memory and the process never holds more than it uses. Images past `limit` bytes are decoded anew.
    """

    def __init__(
        self, source: ImageSource, image_ids: Sequence[ImageId], short_side: int, long_side: int, limit: int
    ) -> None:
        """Reserve space; nothing is read yet."""
        self._source, self._sides = source, (short_side, long_side)
        self._places: dict[ImageId, tuple[int, int, int]] = {}
        self._filled: set[ImageId] = set()
        offset = 0
        for image_id in image_ids:
            width, height = self.size(image_id)
            if offset + 3 * width * height > limit:
                break
            self._places[image_id] = (offset, width, height)
            offset += 3 * width * height
        self._scratch = tempfile.TemporaryFile(prefix="alloop-pixels-")  # noqa: SIM115  lives as long as the cache
        self._scratch.truncate(max(1, offset))
        self._memory = np.memmap(self._scratch, dtype=np.uint8, mode="r+", shape=(max(1, offset),))

    def size(self, image_id: ImageId) -> tuple[int, int]:
        """(width, height) of the cached image."""
        record = self._source.records[image_id]
        return scaled_size(record.width, record.height, *self._sides)

    def read(self, image_id: ImageId) -> UInt8[np.ndarray, "h w 3"]:
        """Pixels at the cached size."""
        if image_id not in self._places:
            return resized(self._source.read(image_id), *self.size(image_id))
        offset, width, height = self._places[image_id]
        view = self._memory[offset : offset + 3 * width * height].reshape(height, width, 3)
        if image_id not in self._filled:
            view[:] = resized(self._source.read(image_id), width, height)
            self._filled.add(image_id)
        return view


def to_tensor(pixels: UInt8[np.ndarray, "h w 3"], device: torch.device) -> Tensor:
    """uint8 HWC to float32 CHW in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device).float().div_(255)


def batch_rows(random_seed: int, round_: int, images: int, batch_size: int, step: int) -> list[int]:
    """Rows of one step: the stream of all epochs, each in its own order, cut into full batches.

    A pure function of (seed, round, step), so training can go on at any step.
    """
    orders: dict[int, np.ndarray] = {}
    rows = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, place = divmod(position, images)
        if epoch not in orders:
            orders[epoch] = rng(random_seed, round_, "order", epoch).permutation(images)
        rows.append(int(orders[epoch][place]))
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
        masks = np.stack([resized_mask(mask, *size) for mask in masks]) if len(masks) else np.zeros((0, *size[::-1]), np.uint8)
    if flipped:
        pixels = pixels[:, ::-1]
        boxes = np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], axis=1)
        masks = None if masks is None else masks[:, :, ::-1]
    return pixels, boxes, masks


def resized_mask(mask: UInt8[np.ndarray, "h w"], width: int, height: int) -> UInt8[np.ndarray, "h2 w2"]:
    """Nearest neighbour."""
    if mask.shape == (height, width):
        return mask
    return np.asarray(PillowImage.fromarray(mask).resize((width, height), PillowImage.Resampling.NEAREST))


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
    ) -> None:
        """Fix everything a batch depends on; image order is by id, never by purchase."""
        self.image_ids = sorted(labeled)
        self._cache, self._source, self._labeled = cache, source, labeled
        self._seed, self._round, self._batch = random_seed, round_, batch_size
        self._flip, self._short_sides, self._long_side = flip, tuple(short_sides), long_side
        self._with_masks, self._device = with_masks, device

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
            full = decode_masks(raw, record.width, record.height, f"image {image_id}")
            masks = np.stack([resized_mask(m, width, height) for m in full]) if raw else np.zeros((0, height, width), np.uint8)
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
