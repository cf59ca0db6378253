"""A trained detector as strategies and the evaluation see it: images by id in, arrays out."""

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors.torch import load as load_safetensors

from alloop.data.images import ImageSource
from alloop.data.pixels import PixelCache
from alloop.detectors import last_layers as derivatives
from alloop.detectors.protocol import (
    CachedFeatures,
    Detector,
    LastLayerDetector,
    LossOfWeights,
    MaskDetector,
    RegionClassifier,
    Target,
)
from alloop.errors import StrategyError
from alloop.geometry.masks import scaled_masks
from alloop.query import Need, PseudoLabels, Weights
from alloop.randomness import derive_seed
from alloop.values import Annotations, Detections, ImageId, MaskPixels

KEPT_BYTES = 1 << 30  # memory for the curvature of labeled images, which influence visits again and again
Product = Callable[[Mapping[str, torch.Tensor]], dict[str, torch.Tensor]]


def to_tensor(pixels: UInt8[np.ndarray, "h w 3"], device: torch.device) -> torch.Tensor:
    """uint8 HWC to float32 CHW in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device).float().div_(255)


class FittedTorchDetector:
    """Streams images through a detector in batches of one image size, so nobody's padding changes a result.

    It holds pixels and weights and no annotation. Embeddings are kept for the round, detections are not.
    Gradients, curvature and slopes are those of each image's loss trained on alone, in the last layers.
    """

    def __init__(
        self,
        detector: Detector,
        source: ImageSource,
        cache: PixelCache,
        class_names: tuple[str, ...],
        *,
        gives: frozenset[Need],
        batch_size: int,
        device: torch.device,
        progress: Callable[[str, int, int], None] = lambda *_: None,
        states: Sequence[Callable[[], bytes]] = (),
    ) -> None:
        """Nothing is computed yet. `states` give the weights along the training, as safetensors."""
        self._states, self._state = states, (len(states), detector)
        self.detector, self.class_names = detector, class_names
        self._gives = gives | ({Need.SNAPSHOTS} if states else set())
        self._source, self._cache = source, cache
        self._batch_size, self._device, self._progress = batch_size, device, progress
        self._embedded: dict[ImageId, np.ndarray] = {}
        self._kept: OrderedDict[tuple[ImageId, Annotations], tuple[Product, int]] = OrderedDict()

    @property
    def gives(self) -> frozenset[Need]:
        """The needs that the detector serves, among them its history where states along the training are known."""
        return self._gives

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Detections of each image in pixels of the image as displayed."""
        found: dict[ImageId, Detections] = {}
        for ids, images in self._batches("detections", image_ids):
            found |= {i: self._detections(i, r) for i, r in zip(ids, self.detector.detect(images), strict=True)}
        return [found[i] for i in image_ids]

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:
        """Detections on each image plus Gaussian noise; the noise is a function of seed, image and sigma.

        It is added at the size the detector sees.
        """
        found: dict[ImageId, Detections] = {}
        generator = torch.Generator(self._device)
        for ids, images in self._batches(f"detections under noise {sigma:g}", image_ids):
            for image_id, image in zip(ids, images, strict=True):
                generator.manual_seed(derive_seed(random_seed, "noise", int(image_id), round(1000 * sigma)))
                noise = torch.randn(image.shape, generator=generator, device=self._device)
                image.add_(noise, alpha=sigma / 255)
            found |= {i: self._detections(i, r) for i, r in zip(ids, self.detector.detect(images), strict=True)}
        return [found[i] for i in image_ids]

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """One feature vector an image."""
        for ids, images in self._batches("embeddings", [i for i in image_ids if i not in self._embedded]):
            self._embedded.update(zip(ids, self.detector.embed(images).float().cpu().numpy(), strict=True))
        return np.stack([self._embedded[i] for i in image_ids])

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """One feature vector a box, for each image."""
        found: dict[ImageId, np.ndarray] = {}
        for ids, images in self._batches("region features", image_ids):
            scaled = [torch.from_numpy(boxes[i] * self._cache.box_scale(i)).to(self._device) for i in ids]
            features = self.detector.region_features(images, scaled)
            found |= {i: f.float().cpu().numpy() for i, f in zip(ids, features, strict=True)}
        return [found[i] for i in image_ids]

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """What the second stage's classifier sees of each box and says: probabilities, background last."""
        if not isinstance(self.detector, RegionClassifier):
            msg = "classifier_outputs: this detector has no second stage that classifies regions"
            raise StrategyError(msg)
        found: dict[ImageId, tuple[np.ndarray, np.ndarray]] = {}
        for ids, images in self._batches("classifier features", image_ids):
            scaled = [torch.from_numpy(boxes[i] * self._cache.box_scale(i)).to(self._device) for i in ids]
            for image_id, (seen, said) in zip(ids, self.detector.classifier_outputs(images, scaled), strict=True):
                found[image_id] = seen.float().cpu().numpy(), said.float().cpu().numpy()
        return [found[i] for i in image_ids]

    @property
    def snapshots(self) -> int:
        """How many states of the training are known, the trained detector included."""
        return len(self._states) + 1

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """What the mask head said at one state of the training, inside the boxes that may be trained on."""
        detector = self._at(snapshot)
        if not isinstance(detector, MaskDetector):
            msg = "mask_pixels: this detector has no mask head"
            raise StrategyError(msg)
        found: dict[ImageId, MaskPixels] = {}
        for ids, images in self._batches("masks", image_ids):
            targets = [self._target(i, annotations[i]) for i in ids]
            for image_id, target, (logits, drawn) in zip(
                ids, targets, detector.mask_outputs(images, targets), strict=True
            ):
                arrays = (logits.float(), target["labels"], drawn)
                found[image_id] = MaskPixels(*(array.cpu().numpy() for array in arrays))
        return [found[i] for i in image_ids]

    def _at(self, snapshot: int) -> Detector:
        """The detector as it was; only the state asked for last is held."""
        if snapshot == len(self._states):
            return self.detector
        if self._state[0] != snapshot:
            detector = copy.deepcopy(self.detector)
            detector.module.load_state_dict(load_safetensors(self._states[snapshot]()))
            self._state = (snapshot, detector)
        return self._state[1]

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """What the loss prediction module expects of each image."""
        predict = getattr(self.detector, "predicted_losses", None)
        if predict is None:
            msg = "loss_predictions: this detector was trained without a loss prediction module"
            raise StrategyError(msg)
        found: dict[ImageId, float] = {}
        for ids, images in self._batches("predicted losses", image_ids):
            found |= zip(ids, predict(images).float().cpu().tolist(), strict=True)
        return np.array([found[i] for i in image_ids], dtype=np.float32)

    @property
    def last_layers(self) -> Mapping[str, float]:
        """Names and released scales of the weights that can be differentiated."""
        return dict(self._differentiable().last_layers)

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]) -> Weights:
        """Gradient of the images' summed losses in the last layers, summed in float64."""
        weights = self._weights()
        total = {name: np.zeros(weight.shape, dtype=np.float64) for name, weight in weights.items()}
        for ids, images in self._batches("gradients", image_ids):
            loss = self._losses(self._cached(images), ids, annotations)
            for name, part in derivatives.gradient(loss, weights).items():
                total[name] += part.cpu().numpy()
        return total

    def curvature_product(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], vector: Weights
    ) -> Weights:
        """Hessian of the images' summed losses in the last layers, times a vector; image by image."""
        tangent = self._tensors(vector)
        total = {name: np.zeros(part.shape, dtype=np.float64) for name, part in tangent.items()}
        for image_id in image_ids:
            for name, part in self._curvature(image_id, annotations[image_id])(tangent).items():
                total[name] += part.cpu().numpy()
        return total

    def loss_slopes(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], direction: Weights
    ) -> Float32[np.ndarray, " n"]:
        """Derivative of each image's loss along a direction in the last layers."""
        weights, tangent = self._weights(), self._tensors(direction)
        found: dict[ImageId, float] = {}
        for ids, images in self._batches("slopes", image_ids):
            loss = self._losses(self._cached(images), ids, annotations)
            found |= zip(ids, derivatives.slopes(loss, weights, tangent).tolist(), strict=True)
        return np.array([found[i] for i in image_ids], dtype=np.float32)

    def pseudo_label_slopes(
        self, image_ids: Sequence[ImageId], direction: Weights, score_threshold: float, labels: PseudoLabels
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Slopes under the detector's own detections, and how many those are; one look at each image serves both."""
        weights, tangent = self._weights(), self._tensors(direction)
        threshold = score_threshold ** self._differentiable().score_power
        found: dict[ImageId, tuple[float, int]] = {}
        for ids, images in self._batches("influence", image_ids):
            frozen = self._cached(images)
            targets = [pseudo_target(result, threshold, labels) for result in frozen.detections()]
            loss = frozen.losses(targets, [sampling_seed(i) for i in ids])
            slopes = derivatives.slopes(loss, weights, tangent).tolist()
            found |= {i: (s, len(t["boxes"])) for i, s, t in zip(ids, slopes, targets, strict=True)}
        pairs = np.array([found[i] for i in image_ids], dtype=np.float32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _differentiable(self) -> LastLayerDetector:
        if not hasattr(self.detector, "cached_features"):
            msg = "this detector cannot be differentiated in its last layers: it has no `last_layers` and `frozen`"
            raise StrategyError(msg)
        return cast("LastLayerDetector", self.detector)

    def _cached(self, images: list[torch.Tensor]) -> CachedFeatures:
        return self._differentiable().cached_features(images)

    def _weights(self) -> dict[str, torch.Tensor]:
        module = self.detector.module
        return {name: module.get_parameter(name).detach() for name in self._differentiable().last_layers}

    def _tensors(self, vector: Weights) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(np.asarray(vector[name])).to(weight) for name, weight in self._weights().items()}

    def _losses(
        self, frozen: CachedFeatures, ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> LossOfWeights:
        targets = [self._target(i, annotations[i]) for i in ids]
        return frozen.losses(targets, [sampling_seed(i) for i in ids])

    def _curvature(self, image_id: ImageId, truth: Annotations) -> Product:
        """The curvature of one labeled image, from memory where it has been made before."""
        key = (image_id, truth)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        frozen = self._cached([to_tensor(self._cache.read(image_id), self._device)])
        loss, weights = self._losses(frozen, [image_id], {image_id: truth}), self._weights()
        if frozen.graph_bytes > KEPT_BYTES // 8:
            return lambda vector: derivatives.curvature_product(loss, weights, vector)
        self._kept[key] = (derivatives.curvature(loss, weights), frozen.graph_bytes)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return self._kept[key][0]

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

    def _detections(self, image_id: ImageId, result: Mapping[str, torch.Tensor]) -> Detections:
        arrays = {key: value.detach().cpu() for key, value in result.items()}
        masks = arrays.get("masks")
        if masks is not None:
            record = self._source.records[image_id]
            size = (record.height, record.width)
            if masks.shape[-2:] != size and len(masks):
                masks = torch.nn.functional.interpolate(masks[None].float(), size=size)[0].to(torch.uint8)
        return Detections(
            boxes=arrays["boxes"].float().numpy() / self._cache.box_scale(image_id),
            scores=arrays["scores"].float().numpy(),
            labels=arrays["labels"].numpy(),
            probabilities=arrays["probabilities"].float().numpy(),
            masks=None if masks is None else masks.numpy(),
            proposals=arrays["proposals"].float().numpy() / self._cache.box_scale(image_id)
            if "proposals" in arrays
            else None,
        )

    def _target(self, image_id: ImageId, truth: Annotations) -> Target:
        keep = truth.trainable
        target = Target(
            boxes=torch.from_numpy(truth.boxes[keep] * self._cache.box_scale(image_id)).to(self._device),
            labels=torch.from_numpy(truth.labels[keep].copy()).to(self._device),
        )
        if Need.MASKS in self._gives:
            raw = [mask for mask, kept in zip(truth.masks, keep, strict=True) if kept]
            masks = scaled_masks(raw, self._source.records[image_id], *self._cache.size(image_id))
            target["masks"] = torch.from_numpy(masks).to(self._device)
        return target


def sampling_seed(image_id: ImageId) -> int:
    """What two-stage heads sample an image's anchors and regions with when its loss alone is asked for."""
    return int(image_id) % 2**31


def pseudo_target(found: Mapping[str, torch.Tensor], score_threshold: float, labels: PseudoLabels) -> Target:
    """Detections as if they were the truth: those above the threshold that cover at least a pixel each way."""
    boxes = found["boxes"]
    keep = (found["scores"] >= score_threshold) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    target = Target(boxes=boxes[keep], labels=found["labels"][keep], own=True)
    if "masks" in found:
        target["masks"] = found["masks"][keep]
    if labels == "posterior":
        target["posteriors"] = found["probabilities"][keep]
    return target
