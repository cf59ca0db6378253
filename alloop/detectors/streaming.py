"""Images streamed through a detector in batches of one padded size, so that no image changes another's result."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from itertools import chain

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from alloop.class_values import Truth
from alloop.data.images import ImageSource
from alloop.data.pixels import PixelCache, Read
from alloop.detectors.frozen_features import FrozenFeatureCache
from alloop.detectors.kept_scores import Arrays, KeptScores
from alloop.detectors.protocol import Image, Network, PaddingDetector, ScoringDetector, Target
from alloop.detectors.transfer import to_tensors
from alloop.geometry.masks import scaled_masks
from alloop.query import Need
from alloop.values import Annotations, ImageId

Results = Mapping[ImageId, Arrays]


class StreamingDetector:
    """A detector with the images that it reads by id; it holds pixels and weights and no annotation.

    Boxes outside of this class are in pixels of the image as displayed, boxes of the detector in those of the
    cached image.
    """

    def __init__(
        self,
        detector: Network,
        source: ImageSource,
        cache: PixelCache,
        class_names: tuple[str, ...],
        *,
        gives: frozenset[Need],
        batch_size: int,
        device: torch.device,
        progress: Callable[[str, int, int], None] = lambda *_: None,
        states: Sequence[Callable[[], bytes]] = (),
        frozen: FrozenFeatureCache | None = None,
        scores: KeptScores | None = None,
        amp: bool = False,
    ) -> None:
        """Keep everything that images are read and detected with; nothing is computed yet.

        Args:
            detector: the trained network.
            source: images with their sizes as displayed.
            cache: the same images at the size that the detector sees.
            class_names: names of the classes, in label order.
            gives: the needs that the detector serves.
            batch_size: images per batch.
            device: where the network is.
            progress: called after each batch with the name of the work, the number of finished images, their total.
            states: each returns the weights at a known state of the training before its end, as safetensors.
            frozen: what the frozen layers of the network make of the images; None lets it read pixels.
            scores: where detections and embeddings are kept; None computes them whenever they are asked for.
            amp: whether detections, embeddings and features are computed under bfloat16 autocast, but for the last
                layers. Losses and their derivatives never are.
        """
        self._amp = amp
        self._trained, self.class_names, self._frozen, self._scores = detector, class_names, frozen, scores
        self._gives = gives | ({Need.SNAPSHOTS} if states else set())
        self._source, self._cache, self._states = source, cache, states
        self._batch_size, self._device, self._progress = batch_size, device, progress
        self._size_divisible = detector.size_divisible if isinstance(detector, PaddingDetector) else 1

    @property
    def gives(self) -> frozenset[Need]:
        """The needs that the detector serves, among them its history where states along the training are known."""
        return self._gives

    @cached_property
    def detector(self) -> Network:
        """The network in the form in which it scores fastest."""
        return self._scoring(self._trained)

    def _scoring(self, detector: Network) -> Network:
        return detector.scoring_copy() if isinstance(detector, ScoringDetector) else detector

    def _batches(self, task: str, image_ids: Sequence[ImageId]) -> Iterator[tuple[list[ImageId], list[Image]]]:
        """Yield batches of images of one padded size, ids ascending: the same in whatever order the ids are given."""
        return self._read(self._frozen, task, self._cut(image_ids))

    def _pixel_batches(self, task: str, image_ids: Sequence[ImageId]) -> Iterator[tuple[list[ImageId], list[Tensor]]]:
        """Yield batches as `_batches` does, always as pixels, which may be changed."""
        return self._read(None, task, self._cut(image_ids))

    def _autocast(self) -> AbstractContextManager[None]:
        """Return the context in which detections, embeddings and features are computed."""
        context: AbstractContextManager[None] = torch.autocast(self._device.type, torch.bfloat16, enabled=self._amp)
        return context

    def _scored(
        self, task: str, image_ids: Sequence[ImageId], compute: Callable[[Sequence[ImageId], list[Image]], Results]
    ) -> Results:
        """Return what `compute` makes of each image. Where results are kept, each image is computed once."""
        results: dict[ImageId, Arrays] = {}
        if self._scores is None:
            for ids, images in self._batches(task, image_ids):
                results |= compute(ids, images)
            return results
        batches = self._scores.batches(task, image_ids, self._cut)
        for batch in batches:
            results |= self._scores.get(task, batch) or {}
        missing = [list(batch) for batch in batches if batch[0] not in results]
        for ids, images in self._read(self._frozen, task, missing):
            computed = compute(ids, images)
            self._scores.put(task, tuple(ids), computed)
            results |= computed
        return results

    def _cut(self, image_ids: Sequence[ImageId]) -> list[list[ImageId]]:
        """Return images as batches of one padded size each, ids ascending."""
        by_size: dict[tuple[int, ...], list[ImageId]] = {}
        for image_id in sorted(image_ids):
            padded = tuple(-(-side // self._size_divisible) for side in self._cache.size(image_id))
            by_size.setdefault(padded, []).append(image_id)
        size = self._batch_size
        return [ids[k : k + size] for _, ids in sorted(by_size.items()) for k in range(0, len(ids), size)]

    def _read(
        self, frozen: FrozenFeatureCache | None, task: str, batches: Sequence[list[ImageId]]
    ) -> Iterator[tuple[list[ImageId], list[Image]]]:
        """Yield each batch with its images, pixels where `frozen` is None, and report progress after it."""
        order, done = list(chain.from_iterable(batches)), 0

        def wanted(ahead: int) -> list[Read]:
            ids = order[done : done + self._batch_size + ahead]
            return [(i, self._cache.size(i)) for i in ids if frozen is None or not frozen.is_kept(i)]

        try:
            for batch in batches:
                self._cache.expect("scoring", wanted, self._batch_size)
                yield batch, self._pixels(batch) if frozen is None else [frozen.read(i) for i in batch]
                done += len(batch)
                self._progress(task, done, len(order))
        finally:
            self._cache.expect("scoring", lambda _: [], 0)

    def _image(self, image_id: ImageId) -> Image:
        """Return an image as the network reads it: what its frozen layers make of it, where they are known."""
        return self._pixels([image_id])[0] if self._frozen is None else self._frozen.read(image_id)

    def _pixels(self, image_ids: Sequence[ImageId]) -> list[Tensor]:
        return to_tensors([self._cache.read(i) for i in image_ids], self._device)

    def _boxes(self, image_id: ImageId, boxes: Float32[np.ndarray, "n 4"]) -> Tensor:
        """Return boxes of the image as displayed in pixels of the cached image."""
        return torch.from_numpy(boxes * self._cache.box_scale(image_id)).to(self._device)

    def _displayed(self, image_id: ImageId, boxes: Tensor) -> Float32[np.ndarray, "n 4"]:
        """Return boxes of the cached image in pixels of the image as displayed."""
        displayed: np.ndarray = boxes.float().numpy() / self._cache.box_scale(image_id)
        return displayed

    def _detections(self, image_id: ImageId, tensors: Mapping[str, Tensor]) -> Arrays:
        """Return the result of `Detector.detect` for one image, moved to the CPU, as the fields of a `Detections`."""
        found = {
            "boxes": self._displayed(image_id, tensors["boxes"]),
            "scores": tensors["scores"].float().numpy(),
            "labels": tensors["labels"].numpy(),
            "probabilities": tensors["probabilities"].float().numpy(),
        }
        if "masks" in tensors:
            found["masks"] = self._displayed_masks(image_id, tensors["masks"])
        if "proposals" in tensors:
            found["proposals"] = self._displayed(image_id, tensors["proposals"])
        return found

    def _displayed_masks(self, image_id: ImageId, masks: Tensor) -> UInt8[np.ndarray, "n h w"]:
        """Return masks at the size of the image as displayed."""
        record = self._source.records[image_id]
        size = (record.height, record.width)
        if masks.shape[-2:] != size and len(masks):
            masks = torch.nn.functional.interpolate(masks[None].float(), size=size)[0].to(torch.uint8)
        displayed: np.ndarray = masks.numpy()
        return displayed

    def _target(self, image_id: ImageId, truth: Truth) -> Target:
        """Return the trainable annotations of an image as a training target in pixels of the cached image."""
        assert isinstance(truth, Annotations)
        trainable = truth.trainable
        target = Target(
            boxes=self._boxes(image_id, truth.boxes[trainable]),
            labels=torch.from_numpy(truth.labels[trainable].copy()).to(self._device),
        )
        if Need.MASKS in self._gives:
            segmentations = [mask for mask, kept in zip(truth.masks, trainable, strict=True) if kept]
            masks = scaled_masks(segmentations, self._source.records[image_id], *self._cache.size(image_id))
            target["masks"] = torch.from_numpy(masks).to(self._device)
        return target
