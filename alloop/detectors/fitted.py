"""A trained detector as strategies and the evaluation see it: images by id in, arrays out."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from alloop.detectors.fitted_network import Boxes, FittedNetwork, unserved
from alloop.detectors.kept_scores import Arrays
from alloop.detectors.protocol import Detector, Image, MaskDetector, RegionClassifier, RegionFeatureDetector
from alloop.randomness import derive_seed
from alloop.values import Annotations, Detections, ImageId, MaskPixels


class FittedTorchDetector(FittedNetwork):
    """A trained detector behind `alloop.query.FittedDetector`.

    A method whose need the network does not serve raises StrategyError.
    """

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Return the detections of each image in pixels of the image as displayed."""
        found = self._scored("detections", image_ids, self._detected)
        return [Detections(**found[i]) for i in image_ids]

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:
        """Return the detections of each image plus Gaussian noise, which is added at the size the detector sees."""
        found: dict[ImageId, Arrays] = {}
        generator = torch.Generator(self._device)
        for ids, images in self._pixel_batches(f"detections under noise {sigma:g}", image_ids):
            for image_id, image in zip(ids, images, strict=True):
                generator.manual_seed(derive_seed(random_seed, "noise", int(image_id), round(1000 * sigma)))
                noise = torch.randn(image.shape, generator=generator, device=self._device)
                image.add_(noise, alpha=sigma / 255)
            found |= self._detected(ids, images)
        return [Detections(**found[i]) for i in image_ids]

    def _detected(self, ids: Sequence[ImageId], images: list[Image]) -> dict[ImageId, Arrays]:
        detector = self.detector
        if not isinstance(detector, Detector):
            raise unserved("detections", "`detect`", detector)
        with self._autocast():
            results = _on_cpu(detector.detect(images))
        return {i: self._detections(i, result) for i, result in zip(ids, results, strict=True)}

    def region_features(self, image_ids: Sequence[ImageId], boxes: Boxes) -> list[Float32[np.ndarray, "_ d"]]:
        """Return one feature vector per box, for each image."""
        detector = self.detector
        if not isinstance(detector, RegionFeatureDetector):
            raise unserved("region_features", "`region_features`", detector)
        features: dict[ImageId, np.ndarray] = {}
        for ids, images in self._batches("region features", image_ids):
            with self._autocast():
                vectors = detector.region_features(images, [self._boxes(i, boxes[i]) for i in ids])
            features |= {i: v.float().cpu().numpy() for i, v in zip(ids, vectors, strict=True)}
        return [features[i] for i in image_ids]

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Boxes
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """Return for each image the classifier's input features and its class probabilities, background last."""
        detector = self.detector
        if not isinstance(detector, RegionClassifier):
            raise unserved("classifier_outputs", "a second stage (`classifier_outputs`)", detector)
        outputs: dict[ImageId, tuple[np.ndarray, np.ndarray]] = {}
        for ids, images in self._batches("classifier features", image_ids):
            with self._autocast():
                pairs = detector.classifier_outputs(images, [self._boxes(i, boxes[i]) for i in ids])
            for image_id, (features, probabilities) in zip(ids, pairs, strict=True):
                outputs[image_id] = features.float().cpu().numpy(), probabilities.float().cpu().numpy()
        return [outputs[i] for i in image_ids]

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """Return the mask logits inside the trainable boxes of each image, at one state of the training."""
        detector = self._at(snapshot)
        if not isinstance(detector, MaskDetector):
            raise unserved("mask_pixels", "a mask head (`mask_outputs`)", detector)
        pixels: dict[ImageId, MaskPixels] = {}
        for ids, images in self._batches("masks", image_ids):
            targets = [self._target(i, annotations[i]) for i in ids]
            outputs = detector.mask_outputs(images, targets)
            for image_id, target, (logits, truth) in zip(ids, targets, outputs, strict=True):
                tensors = (logits.float(), target["labels"], truth)
                pixels[image_id] = MaskPixels(*(tensor.cpu().numpy() for tensor in tensors))
        return [pixels[i] for i in image_ids]


def _on_cpu(results: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Return the results of a batch on the CPU; each key is copied once, since every copy waits for the device."""
    moved = {key: _moved([result[key] for result in results]) for key in results[0]}
    return [{key: parts[row] for key, parts in moved.items()} for row in range(len(results))]


def _moved(parts: Sequence[Tensor]) -> list[Tensor]:
    if len({part.shape[1:] for part in parts}) > 1:  # masks of images of several sizes
        return [part.detach().cpu() for part in parts]
    return list(torch.split(torch.cat(list(parts)).detach().cpu(), [len(part) for part in parts]))
