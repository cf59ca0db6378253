"""A trained detector as strategies and the evaluation see it: images by id in, arrays out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from alloop.data.images import ImageSource
from alloop.data.masks import scaled_masks
from alloop.data.pixels import PixelCache
from alloop.detectors.protocol import Detector, Target
from alloop.detectors.seeding import seeded
from alloop.query import Need
from alloop.values import Annotations, Detections, ImageId


def to_tensor(pixels: UInt8[np.ndarray, "h w 3"], device: torch.device) -> torch.Tensor:
    """uint8 HWC to float32 CHW in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device).float().div_(255)


class FittedTorchDetector:
    """Streams images through a detector in batches of one image size, so nobody's padding changes a result.

    It holds pixels and weights and no annotation. Embeddings are kept for the round, detections are not.
    """

    def __init__(
        self,
        detector: Detector,
        source: ImageSource,
        cache: PixelCache,
        class_names: tuple[str, ...],
        *,
        batch_size: int,
        device: torch.device,
        progress: Callable[[str, int, int], None] = lambda *_: None,
    ) -> None:
        """Nothing is computed yet."""
        self.detector, self.class_names = detector, class_names
        self._source, self._cache = source, cache
        self._batch_size, self._device, self._progress = batch_size, device, progress
        self._embedded: dict[ImageId, np.ndarray] = {}

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Detections of each image in pixels of the image as displayed."""
        found: dict[ImageId, Detections] = {}
        for ids, images in self._batches("detections", image_ids):
            found |= {i: self._detections(i, r) for i, r in zip(ids, self.detector.detect(images), strict=True)}
        return [found[i] for i in image_ids]

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """One feature vector an image."""
        for ids, images in self._batches("embeddings", [i for i in image_ids if i not in self._embedded]):
            self._embedded.update(zip(ids, self.detector.embed(images).float().cpu().numpy(), strict=True))
        return np.stack([self._embedded[i] for i in image_ids])

    def image_losses(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> Float32[np.ndarray, " n"]:
        """The training loss of each image alone; sampling inside two-stage heads is fixed by the image id."""
        module = self.detector.module
        losses = []
        for image_id in image_ids:
            image = to_tensor(self._cache.read(image_id), self._device)
            with torch.no_grad(), seeded(int(image_id) % 2**31), _training_but_norm(module):
                terms = self.detector.losses([image], [self._target(image_id, annotations[image_id])])
            losses.append(sum(float(term.sum()) for term in terms.values()))
        return np.array(losses, dtype=np.float32)

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "n 4"]]
    ) -> list[Float32[np.ndarray, "n d"]]:
        """One feature vector a box, for each image."""
        found: dict[ImageId, np.ndarray] = {}
        for ids, images in self._batches("region features", image_ids):
            scaled = [torch.from_numpy(boxes[i] * self._to_cached(i)).to(self._device) for i in ids]
            features = self.detector.region_features(images, scaled)
            found |= {i: f.float().cpu().numpy() for i, f in zip(ids, features, strict=True)}
        return [found[i] for i in image_ids]

    def _batches(self, what: str, image_ids: Sequence[ImageId]) -> Iterator[tuple[list[ImageId], list[torch.Tensor]]]:
        """Batches of equal size in pixels, ids ascending: the same whatever order they are asked in."""
        by_size: dict[tuple[int, int], list[ImageId]] = {}
        for image_id in sorted(image_ids):
            by_size.setdefault(self._cache.size(image_id), []).append(image_id)
        done = 0
        for _, ids in sorted(by_size.items()):
            for start in range(0, len(ids), self._batch_size):
                batch = ids[start : start + self._batch_size]
                yield batch, [to_tensor(self._cache.read(i), self._device) for i in batch]
                done += len(batch)
                self._progress(what, done, len(image_ids))

    def _to_cached(self, image_id: ImageId) -> Float32[np.ndarray, "4"]:
        record, (width, height) = self._source.records[image_id], self._cache.size(image_id)
        return np.array([width / record.width, height / record.height] * 2, dtype=np.float32)

    def _detections(self, image_id: ImageId, result: Mapping[str, torch.Tensor]) -> Detections:
        arrays = {key: value.detach().cpu() for key, value in result.items()}
        masks = arrays.get("masks")
        if masks is not None:
            record = self._source.records[image_id]
            size = (record.height, record.width)
            if masks.shape[-2:] != size and len(masks):
                masks = torch.nn.functional.interpolate(masks[None].float(), size=size)[0].to(torch.uint8)
        return Detections(
            boxes=arrays["boxes"].float().numpy() / self._to_cached(image_id),
            scores=arrays["scores"].float().numpy(),
            labels=arrays["labels"].numpy(),
            probabilities=arrays["probabilities"].float().numpy(),
            masks=None if masks is None else masks.numpy(),
        )

    def _target(self, image_id: ImageId, truth: Annotations) -> Target:
        keep = truth.trainable
        target = Target(
            boxes=torch.from_numpy(truth.boxes[keep] * self._to_cached(image_id)).to(self._device),
            labels=torch.from_numpy(truth.labels[keep].copy()).to(self._device),
        )
        if Need.MASKS in self.detector.gives:
            raw = [mask for mask, kept in zip(truth.masks, keep, strict=True) if kept]
            masks = scaled_masks(raw, self._source.records[image_id], *self._cache.size(image_id))
            target["masks"] = torch.from_numpy(masks).to(self._device)
        return target


@contextmanager
def _training_but_norm(module: torch.nn.Module) -> Iterator[None]:
    """Train mode, since torchvision only then returns losses, with batch norm in eval mode; the modes come back."""
    modes = {name: child.training for name, child in module.named_modules()}
    module.train()
    for child in module.modules():
        if isinstance(child, torch.nn.BatchNorm2d):
            child.eval()
    try:
        yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]
