"""What a trained network of any task answers: embeddings, predicted losses, and the states of its training."""

import copy
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float32
from safetensors.torch import load as load_safetensors

from alloop.detectors.fitted_derivatives import DifferentiableStream
from alloop.detectors.kept_scores import Arrays
from alloop.detectors.loss_prediction import attached_module, predicted_losses
from alloop.detectors.protocol import EmbeddingDetector, Image, Network, PyramidDetector
from alloop.errors import StrategyError
from alloop.values import Annotations, Detections, ImageId, MaskPixels

Boxes = Mapping[ImageId, Float32[np.ndarray, "_ 4"]]


class FittedNetwork(DifferentiableStream):
    """A trained network that reads images by id, behind `alloop.query.FittedDetector`.

    Embeddings are kept for the round. A method whose need the network does not serve raises StrategyError.
    """

    @cached_property
    def _embedded(self) -> dict[ImageId, np.ndarray]:
        return {}

    @cached_property
    def _snapshots(self) -> dict[int, Network]:
        return {}

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """Return one feature vector per image."""
        detector = self.detector
        if not isinstance(detector, EmbeddingDetector):
            raise unserved("embeddings", "`embed`", detector)

        def embedded(ids: Sequence[ImageId], images: list[Image]) -> dict[ImageId, Arrays]:
            with self._autocast():
                vectors = detector.embed(images).float().cpu().numpy()
            return {image_id: {"vector": vector} for image_id, vector in zip(ids, vectors, strict=True)}

        found = self._scored("embeddings", [i for i in image_ids if i not in self._embedded], embedded)
        self._embedded.update({image_id: arrays["vector"] for image_id, arrays in found.items()})
        return np.stack([self._embedded[i] for i in image_ids])

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:  # noqa: ARG002
        """Refuse: this is no detector."""
        raise unserved("detections", "`detect`", self.detector)

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:  # noqa: ARG002
        """Refuse: this is no detector."""
        raise unserved("noisy_detections", "`detect`", self.detector)

    def class_probabilities(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n k"]:  # noqa: ARG002
        """Refuse: this is no classifier."""
        raise unserved("class_probabilities", "`classify`", self.detector)

    def region_features(self, image_ids: Sequence[ImageId], boxes: Boxes) -> list[Float32[np.ndarray, "_ d"]]:  # noqa: ARG002
        """Refuse: this is no detector."""
        raise unserved("region_features", "`region_features`", self.detector)

    def classifier_outputs(
        self,
        image_ids: Sequence[ImageId],  # noqa: ARG002
        boxes: Boxes,  # noqa: ARG002
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """Refuse: this is no detector."""
        raise unserved("classifier_outputs", "a second stage (`classifier_outputs`)", self.detector)

    def mask_pixels(
        self,
        image_ids: Sequence[ImageId],  # noqa: ARG002
        annotations: Mapping[ImageId, Annotations],  # noqa: ARG002
        snapshot: int,  # noqa: ARG002
    ) -> list[MaskPixels]:
        """Refuse: this is no detector."""
        raise unserved("mask_pixels", "a mask head (`mask_outputs`)", self.detector)

    @property
    def snapshots(self) -> int:
        """Number of known states of the training; the last one is the trained detector."""
        return len(self._states) + 1

    def _at(self, snapshot: int) -> Network:
        """Return the detector at a state of its training; only the state that was used last is kept."""
        if snapshot == len(self._states):
            return self.detector
        if snapshot not in self._snapshots:
            detector = copy.deepcopy(self._trained)
            detector.module.load_state_dict(load_safetensors(self._states[snapshot]()))
            self._snapshots.clear()
            self._snapshots[snapshot] = self._scoring(detector)
        return self._snapshots[snapshot]

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """Return the predicted loss of each image."""
        detector = self.detector
        if not isinstance(detector, PyramidDetector) or attached_module(detector) is None:
            raise unserved("loss_predictions", "a loss prediction module trained beside it", detector)

        def predicted(ids: Sequence[ImageId], images: list[Image]) -> dict[ImageId, Arrays]:
            losses = predicted_losses(detector, images).float().cpu().numpy()
            return {image_id: {"loss": loss} for image_id, loss in zip(ids, losses[:, None], strict=True)}

        found = self._scored("predicted losses", image_ids, predicted)
        return np.array([found[i]["loss"][0] for i in image_ids], dtype=np.float32)


def unserved(method: str, requirement: str, detector: Network) -> StrategyError:
    """Return the error of a network that does not serve a need."""
    return StrategyError(f"{method}: expected a detector with {requirement}, found {type(detector).__name__}")
