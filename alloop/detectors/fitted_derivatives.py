"""Derivatives of a trained detector's losses in its last layers, image by image."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from alloop.class_values import Truth
from alloop.detectors import last_layers as derivatives
from alloop.detectors.protocol import CachedFeatures, CachedLosses, Image, LastLayerDetector, LossOfWeights, Target
from alloop.detectors.streaming import StreamingDetector
from alloop.errors import StrategyError
from alloop.query import PseudoLabels, Weights
from alloop.values import ImageId

KEPT_BYTES = 1 << 30  # memory for the curvature of labeled images, which influence visits again and again
KEPT_SHARE = 1 / 8  # of the memory of a GPU, where that is more
Product = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


def sampling_seed(image_id: ImageId) -> int:
    """Return the seed with which a two-stage detector samples anchors and regions for the loss of one image."""
    return int(image_id) % 2**31


def pseudo_target(detections: Mapping[str, Tensor], score_threshold: float, labels: PseudoLabels) -> Target:
    """Return detections as a training target: those above the threshold, at least one pixel wide and high."""
    boxes = detections["boxes"]
    keep = (detections["scores"] >= score_threshold) & ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    target = Target(boxes=boxes[keep], labels=detections["labels"][keep], is_prediction=True)
    if "masks" in detections:
        target["masks"] = detections["masks"][keep]
    if labels == "posterior":
        target["posteriors"] = detections["probabilities"][keep]
    return target


def kept_bytes(device: torch.device) -> int:
    """Return the memory for the curvature of labeled images."""
    if device.type != "cuda":
        return KEPT_BYTES
    return max(KEPT_BYTES, int(KEPT_SHARE * torch.cuda.get_device_properties(device).total_memory))


class DifferentiableStream(StreamingDetector):
    """A streaming detector that differentiates the loss of each image as if it were the only one of its batch.

    It is `alloop.query.Differentiable`; each method raises StrategyError where the network has no last layers.
    """

    @cached_property
    def _kept(self) -> OrderedDict[tuple[ImageId, Truth], tuple[Product, int]]:
        """Curvature of labeled images with its size in bytes, the one that was used last at the end."""
        return OrderedDict()

    @property
    def last_layers(self) -> Mapping[str, float]:
        """Names of the weights that can be differentiated, with their scales in ISAL's released code."""
        return dict(self._network.last_layers)

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth]) -> Weights:
        """Return the gradient of the images' summed losses, summed in float64."""
        weights = self._weights()
        total = {name: np.zeros(weight.shape, dtype=np.float64) for name, weight in weights.items()}
        for ids, images in self._batches("gradients", image_ids):
            loss = self._losses(self._cached(images), ids, annotations)
            for name, part in derivatives.gradient(loss, weights).items():
                total[name] += part.cpu().numpy()
        return total

    def curvature_product(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth], vector: Weights
    ) -> Weights:
        """Return the Hessian of the images' summed losses times a vector, one image at a time."""
        tangent = self._tensors(vector)
        total = {name: np.zeros(part.shape, dtype=np.float64) for name, part in tangent.items()}
        for image_id in image_ids:
            for name, part in self._curvature(image_id, annotations[image_id])(tangent).items():
                total[name] += part.cpu().numpy()
        return total

    def loss_slopes(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth], direction: Weights
    ) -> Float32[np.ndarray, " n"]:
        """Return the derivative of each image's loss along a direction."""
        weights, tangent = self._weights(), self._tensors(direction)
        slopes: dict[ImageId, float] = {}
        for ids, images in self._batches("slopes", image_ids):
            loss = self._losses(self._cached(images), ids, annotations)
            slopes |= zip(ids, derivatives.slopes(loss, weights, tangent).tolist(), strict=True)
        return np.array([slopes[i] for i in image_ids], dtype=np.float32)

    def pseudo_label_slopes(
        self, image_ids: Sequence[ImageId], direction: Weights, score_threshold: float, labels: PseudoLabels
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Return slopes under the detector's own detections, and how many those are; each image is seen once."""
        weights, tangent = self._weights(), self._tensors(direction)
        results: dict[ImageId, tuple[float, int]] = {}
        for ids, images in self._batches("influence", image_ids):
            cached = self._cached(images)
            targets = self._pseudo_targets(cached, score_threshold, labels)
            loss = cached.losses(targets, [sampling_seed(i) for i in ids])
            slopes = derivatives.slopes(loss, weights, tangent).tolist()
            counts = [len(target["labels"]) for target in targets]
            results |= zip(ids, zip(slopes, counts, strict=True), strict=True)
        pairs = np.array([results[i] for i in image_ids], dtype=np.float32).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]

    def _pseudo_targets(self, cached: CachedLosses, score_threshold: float, labels: PseudoLabels) -> list[Target]:
        """Return the network's own predictions of a batch as training targets."""
        assert isinstance(cached, CachedFeatures)
        if isinstance(labels, int):
            msg = "top_classes: a detection has one class; leave it out, or take pseudo_labels: posterior"
            raise StrategyError(msg)
        return [pseudo_target(detections, score_threshold, labels) for detections in cached.detections()]

    @property
    def _network(self) -> LastLayerDetector:
        if not isinstance(self.detector, LastLayerDetector):
            msg = (
                "derivatives in the last layers: expected a detector with `last_layers` and `cached_features`, found "
                f"{type(self.detector).__name__}; use a detector that gives last_layers"
            )
            raise StrategyError(msg)
        return self.detector

    def _cached(self, images: list[Image]) -> CachedLosses:
        return self._network.cached_features(images)

    def _weights(self) -> dict[str, Tensor]:
        module = self.detector.module
        return {name: module.get_parameter(name).detach() for name in self._network.last_layers}

    def _tensors(self, vector: Weights) -> dict[str, Tensor]:
        return {name: torch.from_numpy(np.asarray(vector[name])).to(weight) for name, weight in self._weights().items()}

    def _losses(
        self, cached: CachedLosses, ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth]
    ) -> LossOfWeights:
        targets = [self._target(i, annotations[i]) for i in ids]
        return cached.losses(targets, [sampling_seed(i) for i in ids])

    def _curvature(self, image_id: ImageId, truth: Truth) -> Product:
        """Return the curvature of one labeled image, kept from an earlier call where memory allows."""
        key = (image_id, truth)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][0]
        cached = self._cached([self._image(image_id)])
        loss, weights = self._losses(cached, [image_id], {image_id: truth}), self._weights()
        if cached.graph_bytes > kept_bytes(self._device) // 8:
            return lambda vector: derivatives.curvature_product(loss, weights, vector)
        self._kept[key] = (derivatives.curvature(loss, weights), cached.graph_bytes)
        while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > kept_bytes(self._device):
            self._kept.popitem(last=False)
        return self._kept[key][0]
