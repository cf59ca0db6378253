"""From stored images to training batches: decoded once, scaled once, augmented as a function of the step."""

import functools
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from alloop.class_values import Truth
from alloop.config.training import TrainingConfig
from alloop.data.pixels import PixelCache, Read, Size, resized, scaled_size
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.protocol import Image, Target
from alloop.detectors.transfer import on_device, to_tensors
from alloop.geometry.boxes import box_scale
from alloop.geometry.masks import resized_mask, scaled_masks
from alloop.randomness import RoundSeed, derive_seed
from alloop.training.repeat_factors import image_repeats
from alloop.values import Annotations, ImageId


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: RoundSeed, epoch: int, images: int) -> np.ndarray:
    """Return the order of one epoch. It is kept, since drawing it at every step costs time in large pools."""
    return seed.rng("order", epoch).permutation(images)


def batch_rows(seed: RoundSeed, images: int, batch_size: int, step: int) -> list[int]:
    """Return the rows of one step: the stream of all epochs, each in its own order, is cut into full batches.

    The rows are a pure function of seed and step, so training can go on at any step.
    """
    rows = []
    for position in range(step * batch_size, (step + 1) * batch_size):
        epoch, offset = divmod(position, images)
        rows.append(int(_epoch_order(seed, epoch, images)[offset]))
    return rows


def training_pixels(
    pixels: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], *, mirrored: bool
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Scale pixels to `size` (width, height), and mirror them where `mirrored`."""
    pixels = resized(pixels, *size)
    return pixels[:, ::-1] if mirrored else pixels


def training_target(
    boxes: Float32[np.ndarray, "n 4"],
    masks: UInt8[np.ndarray, "n h w"] | None,
    before: tuple[int, int],
    size: tuple[int, int],
    *,
    mirrored: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Scale boxes and masks from one (width, height) to another, and mirror them together where `mirrored`."""
    boxes = boxes * box_scale(before, size)
    if masks is not None:
        masks = _resized_masks(masks, size)
    if not mirrored:
        return boxes, masks
    boxes = np.stack([size[0] - boxes[:, 2], boxes[:, 1], size[0] - boxes[:, 0], boxes[:, 3]], axis=1)
    return boxes, None if masks is None else masks[:, :, ::-1]


def _resized_masks(masks: UInt8[np.ndarray, "n h w"], size: tuple[int, int]) -> UInt8[np.ndarray, "n h2 w2"]:
    width, height = size
    if not len(masks):
        return np.zeros((0, height, width), np.uint8)
    return np.stack([resized_mask(mask, width, height) for mask in masks])


class TrainingBatches:
    """Batches of labeled images of one round, by step number.

    Attributes:
        image_ids: the images of an epoch in ascending order, so the order of purchase changes nothing. With
            `training.repeat_threshold`, images of rare classes occur several times.
        labels: class indices of the boxes of each labeled image that may be trained on, each image once.
    """

    def __init__(
        self,
        cache: PixelCache,
        labeled: Mapping[ImageId, Truth],
        config: TrainingConfig,
        seed: RoundSeed,
        *,
        with_masks: bool,
        device: torch.device,
        frozen: FrozenFeatureCache | None = None,
    ) -> None:
        """Fix everything that a batch depends on.

        Args:
            cache: pixels at the largest training scale.
            labeled: the images to train on, with their annotations.
            config: batch size, augmentation and repetition of rare classes.
            seed: of this round.
            with_masks: whether targets hold masks.
            device: of the returned tensors.
            frozen: what the frozen layers of the detector make of the images, at the one size that is trained at;
                None returns pixels.
        """
        self._cache = cache
        self._frozen = frozen
        self._labeled = labeled
        self._config = config
        self._seed = seed
        self._with_masks = with_masks
        self._device = device
        self.image_ids = sorted(labeled)
        self.labels = [labeled[i].labels[labeled[i].trainable] for i in self.image_ids]
        if config.repeat_threshold is not None:
            self.image_ids = self._repeated(config.repeat_threshold)

    def _repeated(self, threshold: float) -> list[ImageId]:
        """Return the image ids, each as often as its repeat factor says."""
        classes = 1 + max((int(labels.max(initial=0)) for labels in self.labels), default=0)
        repeats = image_repeats(self.labels, classes, threshold)
        return [image_id for image_id, times in zip(self.image_ids, repeats, strict=True) for _ in range(times)]

    def class_boxes(self, classes: int) -> Int64[np.ndarray, " k"]:
        """Return the number of boxes of each class that an epoch shows; repeated images count as often as it does."""
        shown = [self._labeled[i].labels[self._labeled[i].trainable] for i in self.image_ids]
        return np.bincount(np.concatenate([np.zeros(0, np.int64), *shown]), minlength=classes)

    @property
    def steps_per_epoch(self) -> int:
        """About how many steps show every image once."""
        return max(1, round(len(self.image_ids) / self._config.batch_size))

    def __call__(self, step: int) -> tuple[list[Image], list[Target], list[ImageId]]:
        """Return images, targets and image ids of one step."""
        self._cache.expect("training", lambda ahead: self._wanted(step, ahead), self._config.batch_size)
        planned = self._planned(step)
        targets = self._sent([self._target(*example) for example in planned])
        return self._images(planned), targets, [image_id for image_id, *_ in planned]

    def _planned(self, step: int) -> list[tuple[ImageId, Size, bool]]:
        """Return each image of a step, the size at which it is shown, and whether it is mirrored."""
        generator = self._seed.rng("augment", step)
        return [self._augmented(image_id, generator) for image_id in self.step_ids(step)]

    def step_ids(self, step: int) -> list[ImageId]:
        """Return the image ids of one step, a pure function of seed and step."""
        rows = batch_rows(self._seed, len(self.image_ids), self._config.batch_size, step)
        return [self.image_ids[row] for row in rows]

    def _augmented(self, image_id: ImageId, generator: np.random.Generator) -> tuple[ImageId, Size, bool]:
        size = self._cache.size(image_id)
        if self._config.short_sides:
            record = self._cache.source.records[image_id]
            short_side = int(generator.choice(self._config.short_sides))
            size = scaled_size(record.width, record.height, short_side, self._cache.long_side)
        return image_id, size, bool(generator.random() < self._config.flip)

    def _wanted(self, step: int, ahead: int) -> list[Read]:
        """Return the pixels that a step needs, and those of the steps after it that show at least `ahead` images."""
        steps = range(step, step + 1 + math.ceil(ahead / self._config.batch_size))
        return [
            (image_id, size)
            for image_id, size, mirrored in chain.from_iterable(map(self._planned, steps))
            if self._frozen is None or not self._frozen.is_kept(image_id, mirrored=mirrored)
        ]

    def _target(self, image_id: ImageId, size: Size, mirrored: bool) -> dict[str, np.ndarray]:  # noqa: FBT001
        """Return the target of one image, augmented."""
        record = self._cache.source.records[image_id]
        truth = self._labeled[image_id]
        assert isinstance(truth, Annotations)
        cached_size = self._cache.size(image_id)
        masks = None
        if self._with_masks:
            kept = [mask for mask, trainable in zip(truth.masks, truth.trainable, strict=True) if trainable]
            masks = scaled_masks(kept, record, *cached_size)
        boxes = truth.boxes[truth.trainable] * self._cache.box_scale(image_id)
        boxes, masks = training_target(boxes, masks, cached_size, size, mirrored=mirrored)
        large = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # rounding may leave nothing of a box that is hardly there
        labels = truth.labels[truth.trainable][large]
        target = {"boxes": boxes[large], "labels": labels}
        return target if masks is None else {**target, "masks": masks[large]}

    def _images(self, planned: Sequence[tuple[ImageId, Size, bool]]) -> list[Image]:
        """Return the images of a step, augmented, or what the frozen layers make of them."""
        if self._frozen is not None:
            return [self._frozen.read(image_id, mirrored=mirrored) for image_id, _, mirrored in planned]
        pixels = [training_pixels(self._cache.read(i, size), size, mirrored=mirrored) for i, size, mirrored in planned]
        return [*to_tensors(pixels, self._device)]

    def _sent(self, targets: Sequence[Mapping[str, np.ndarray]]) -> list[Target]:
        """Return targets as tensors on the device."""
        sent = iter(on_device([array for target in targets for array in target.values()], self._device))
        return [cast("Target", {name: next(sent) for name in target}) for target in targets]


class UnlabeledBatches:
    """Batches of images without labels, by step number, at the size they are scored at.

    Attributes:
        image_ids: the images in ascending order.
        repeats: how often an epoch shows each of them.
        since: the step from which `repeats` holds.
    """

    def __init__(
        self,
        cache: PixelCache,
        image_ids: Sequence[ImageId],
        seed: RoundSeed,
        *,
        batch_size: int,
        device: torch.device,
        frozen: FrozenFeatureCache | None = None,
    ) -> None:
        """Begin with every image once per epoch.

        Args:
            cache: pixels at the scoring scale.
            image_ids: the images.
            seed: of this round.
            batch_size: images per step.
            device: of the returned tensors.
            frozen: what the frozen layers of the detector make of the images; None where there are none.
        """
        self._cache, self._frozen = cache, frozen
        self._seed = seed
        self._batch_size = batch_size
        self._device = device
        self.image_ids = sorted(image_ids)
        self._row = {image_id: row for row, image_id in enumerate(self.image_ids)}
        self.set_repeats(np.ones(len(self.image_ids), dtype=np.int64), 0)

    def set_repeats(self, repeats: Int64[np.ndarray, " n"], since: int) -> None:
        """Show each image `repeats` times per epoch from step `since` on."""
        self.repeats = repeats
        self.since = since
        self._epoch = np.repeat(np.arange(len(repeats)), repeats)  # rows of one epoch

    def __call__(self, step: int) -> tuple[list[Tensor], list[ImageId]]:
        """Return images and image ids of one step, which is not before `since`."""
        self._cache.expect("unlabeled", lambda ahead: self._wanted(step, ahead), self._batch_size)
        image_ids = self._ids(step)
        return to_tensors([self._cache.read(i) for i in image_ids], self._device), image_ids

    def unchanged(self, image_ids: Sequence[ImageId], images: list[Tensor]) -> list[Image]:
        """Return images as nobody changes them: what frozen layers make of them, where they are known."""
        return [*images] if self._frozen is None else [self._frozen.read(i) for i in image_ids]

    def _ids(self, step: int) -> list[ImageId]:
        seed = RoundSeed(derive_seed(self._seed.random_seed, "unlabeled", self.since), self._seed.round)
        positions = batch_rows(seed, len(self._epoch), self._batch_size, step - self.since)
        return [self.image_ids[self._epoch[position]] for position in positions]

    def _wanted(self, step: int, ahead: int) -> list[Read]:
        """Return what a step needs, and the steps after it, if `repeats` stay as they are."""
        steps = range(step, step + 1 + math.ceil(ahead / self._batch_size))
        return [(i, self._cache.size(i)) for i in chain.from_iterable(map(self._ids, steps))]

    def row(self, image_id: ImageId) -> int:
        """Return the position of an image in `image_ids`."""
        return self._row[image_id]

    def box_scale(self, image_id: ImageId) -> Float32[np.ndarray, "4"]:
        """Return the factors that turn an xyxy box of the image as displayed into one of the returned image."""
        return self._cache.box_scale(image_id)
