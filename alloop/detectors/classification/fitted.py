"""A trained classifier as strategies and the evaluation see it: images by id in, arrays out."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn import functional

from alloop.class_values import ClassLabel, Truth
from alloop.detectors.classification.classifier import CachedImages
from alloop.detectors.fitted_network import FittedNetwork, unserved
from alloop.detectors.kept_scores import Arrays
from alloop.detectors.last_layers import with_slopes
from alloop.detectors.protocol import Classifier, Image, Target
from alloop.errors import AlloopError
from alloop.query import PseudoLabels, Weights
from alloop.values import ImageId


class FittedTorchClassifier(FittedNetwork):
    """A trained classifier: class probabilities beside what every network answers."""

    def class_probabilities(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n k"]:
        """Return the probability of each class, for each image.

        Raises:
            AlloopError: numbers that are not finite.
        """
        found = self._scored("probabilities", image_ids, self._classified)
        rows = np.stack([found[i]["probabilities"] for i in image_ids])
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            msg = f"image {image_ids[int(finite.argmin())]}: the classifier gives probabilities that are not finite"
            raise AlloopError(f"{msg}; lower training.lr")
        return rows

    def _classified(self, ids: Sequence[ImageId], images: list[Image]) -> dict[ImageId, Arrays]:
        network = self.detector
        if not isinstance(network, Classifier):
            raise unserved("class_probabilities", "`classify`", network)
        with self._autocast():
            rows = network.classify(images).float().cpu().numpy()
        return {image_id: {"probabilities": row} for image_id, row in zip(ids, rows, strict=True)}

    def _target(self, image_id: ImageId, truth: Truth) -> Target:  # noqa: ARG002
        """Return the class of an image as a training target."""
        assert isinstance(truth, ClassLabel)
        return Target(labels=torch.tensor([truth.label], device=self._device))

    def pseudo_label_slopes(
        self, image_ids: Sequence[ImageId], direction: Weights, score_threshold: float, labels: PseudoLabels
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Return slopes of the expected loss, and one pseudo-label for each image.

        With logits z, probabilities p and weights w of the classes, the loss is sum_c w_c (log sum exp z - z_c), so its
        slope is sum_c w_c (p . z' - z'_c), where z' is the slope of z. One pass with a tangent gives z and z'.
        """
        weights, tangent = self._weights(), self._tensors(direction)
        found: dict[ImageId, float] = {}
        for ids, images in self._batches("influence", image_ids):
            cached = self._cached(images)
            assert isinstance(cached, CachedImages)
            logits, moved = with_slopes(cached.logits, weights, tangent)
            p = logits.softmax(dim=1)
            w = weighed(p, score_threshold, labels)
            slopes = w.sum(dim=1) * (p * moved).sum(dim=1) - (w * moved).sum(dim=1)
            found |= zip(ids, slopes.tolist(), strict=True)
        return np.array([found[i] for i in image_ids], dtype=np.float32), np.ones(len(image_ids), dtype=np.float32)


def weighed(p: Float[Tensor, "n k"], score_threshold: float, labels: PseudoLabels) -> Float[Tensor, "n k"]:
    """Return the weight of each class in the expected loss of an image.

    It is 1 for the most probable class (`hard`), or the probability of each class that reaches the threshold
    (`posterior`) or is among the most probable ones (a number). Source: ISAL's expected gradient. With the
    probabilities of all classes its slope in the logits is 0, since sum_c p_c (p - e_c) is.
    """
    if labels == "hard":
        return functional.one_hot(p.argmax(dim=1), p.shape[1]).to(p)
    if labels == "posterior":
        return torch.where(p >= score_threshold, p, 0.0)
    kept = torch.zeros_like(p, dtype=torch.bool).scatter(1, p.topk(min(labels, p.shape[1])).indices, value=True)
    return torch.where(kept, p, 0.0)
