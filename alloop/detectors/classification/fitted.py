"""A trained classifier as strategies and the evaluation see it: images by id in, arrays out."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from alloop.class_values import ClassLabel, Truth
from alloop.detectors.classification.classifier import CachedImages
from alloop.detectors.fitted_network import FittedNetwork, unserved
from alloop.detectors.kept_scores import Arrays
from alloop.detectors.protocol import CachedLosses, Classifier, Image, Target
from alloop.errors import AlloopError
from alloop.query import PseudoLabels
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

    def _pseudo_targets(self, cached: CachedLosses, score_threshold: float, labels: PseudoLabels) -> list[Target]:
        """Return the most probable class of each image, or the probabilities of several classes.

        These are the classes that reach the threshold, or the `labels` most probable ones. Source: ISAL's expected
        gradient. With all classes its slope in the last layer is 0, since the sum of p_c (p - e_c) is; so the least
        probable ones are left out.
        """
        assert isinstance(cached, CachedImages)
        probabilities = cached.probabilities()
        targets = [Target(labels=row.argmax()[None]) for row in probabilities]
        if labels == "hard":
            return targets
        for target, row in zip(targets, probabilities, strict=True):
            weighed = row >= score_threshold
            if isinstance(labels, int):
                weighed = torch.zeros_like(weighed).scatter(0, row.topk(min(labels, len(row))).indices, value=True)
            target["posteriors"] = torch.where(weighed, row, 0.0)[None]
        return targets
