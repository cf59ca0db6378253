"""A query over a detector without pixels, for checking strategies in milliseconds.

Every capability of the fake detector is a class of its own, so that a partial detector can be put together.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from alloop.class_values import Truth
from alloop.query import Need, PseudoLabels, Query, Weights
from alloop.randomness import rng
from alloop.values import Annotations, Detections, ImageId, MaskPixels


class _Fake:
    """A detector whose every answer is a pure function of the image id; some images are alike."""

    class_names = ("cat", "dog", "bird")

    def __init__(self, *, distinct: int = 10_000, empty: int = 7) -> None:
        """Create a fake detector.

        Args:
            distinct: images whose ids are congruent modulo this number look the same, so ties are common.
            empty: images whose ids are then divisible by this number have no detection.
        """
        self._distinct, self._empty = distinct, empty

    def _rng(self, image_id: ImageId) -> np.random.Generator:
        return rng(0, "fake", int(image_id) % self._distinct)


class FakeDetections(_Fake):
    """Detects 0 to 5 boxes per image, with and without noise."""

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """Return 0 to 5 boxes per image."""
        return [self._detections(image_id) for image_id in image_ids]

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:  # noqa: ARG002
        """Return boxes moved by up to a tenth of sigma pixels; images that look the same move alike."""
        return [self._detections(image_id, sigma) for image_id in image_ids]

    def _detections(self, image_id: ImageId, sigma: float = 0.0) -> Detections:
        generator = self._rng(image_id)
        count = 0 if image_id % self._distinct % self._empty == 0 else int(generator.integers(1, 6))
        corner = generator.uniform(0, 40, (count, 2))
        side = generator.uniform(4, 20, (count, 2))
        probabilities = generator.dirichlet(np.ones(4), count)[:, :3].reshape(count, 3)
        best = probabilities.max(axis=1, initial=0.0)
        order = np.argsort(-best, kind="stable")
        proposals = np.concatenate([corner, corner + side], axis=1)[order]
        return Detections(
            boxes=proposals + 0.1 * sigma * generator.uniform(-1, 1, (count, 1)) + 0.1,
            scores=best[order],
            labels=probabilities.argmax(axis=1)[order] if count else np.zeros(0, dtype=np.int64),
            probabilities=probabilities[order],
            masks=_ellipses(proposals),
            proposals=proposals,
        )


class FakeClassProbabilities(_Fake):
    """Gives each image probabilities of the classes."""

    def class_probabilities(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n k"]:
        """Return probabilities of three classes for each image."""
        return np.stack([self._rng(i).dirichlet(np.ones(3)).astype(np.float32) for i in image_ids])


class FakeFeatures(_Fake):
    """Describes images by 16 numbers, regions by 8, and classifies regions."""

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """Return 16 numbers per image."""
        return np.stack([self._rng(i).normal(size=16).astype(np.float32) for i in image_ids])

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """Return 8 numbers per box."""
        return [self._rng(i).normal(size=(len(boxes[i]), 8)).astype(np.float32) for i in image_ids]

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """Return 6 numbers per box, and probabilities of the classes and the background."""
        outputs = []
        for image_id in image_ids:
            generator, count = self._rng(image_id), len(boxes[image_id])
            posterior = generator.dirichlet(np.ones(4), count).reshape(count, 4)
            outputs.append((generator.normal(size=(count, 6)).astype(np.float32), posterior.astype(np.float32)))
        return outputs


class FakeMasks(_Fake):
    """Predicts masks of 7 by 7 pixels at three states of its training."""

    snapshots = 3

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """Return 7 by 7 pixels per instance."""
        return [self._mask_pixels(image_id, annotations[image_id], snapshot) for image_id in image_ids]

    def _mask_pixels(self, image_id: ImageId, truth: Annotations, snapshot: int) -> MaskPixels:
        labels = truth.labels[truth.trainable]
        generator = rng(0, "pixels", int(image_id) % self._distinct, snapshot)
        logits = generator.normal(size=(len(labels), 3, 7, 7)).astype(np.float32)
        return MaskPixels(logits, labels, generator.random((len(labels), 7, 7)) < 0.5)


class FakeLossPredictions(_Fake):
    """Predicts a loss per image."""

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """Return one number per image."""
        return np.array([self._rng(i).random() for i in image_ids], dtype=np.float32)


class FakeDerivatives(FakeDetections):
    """Has one weight of eight numbers, now at zero; the loss of image i is sum_k c_ik (w_k - t_ik)^2 / 2."""

    @property
    def last_layers(self) -> Mapping[str, float]:
        """The name and the scale of the one weight."""
        return {"weight": 10.0}

    def _curvature_and_minimum(self, image_id: ImageId) -> tuple[np.ndarray, np.ndarray]:
        generator = self._rng(image_id)
        return generator.uniform(0.5, 2, 8), generator.normal(size=8)

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Truth]) -> Weights:  # noqa: ARG002
        """Return the sum of -c t."""
        losses = [self._curvature_and_minimum(i) for i in image_ids]
        return {"weight": np.sum([-c * t for c, t in losses], axis=0)}

    def curvature_product(
        self,
        image_ids: Sequence[ImageId],
        annotations: Mapping[ImageId, Truth],  # noqa: ARG002
        vector: Weights,
    ) -> Weights:
        """Return the sum of c times the vector."""
        return {"weight": np.sum([self._curvature_and_minimum(i)[0] * vector["weight"] for i in image_ids], axis=0)}

    def loss_slopes(
        self,
        image_ids: Sequence[ImageId],
        annotations: Mapping[ImageId, Truth],  # noqa: ARG002
        direction: Weights,
    ) -> Float32[np.ndarray, " n"]:
        """Return the gradient times the direction."""
        losses = [self._curvature_and_minimum(i) for i in image_ids]
        return np.array([-(c * t) @ direction["weight"] for c, t in losses], dtype=np.float32)

    def pseudo_label_slopes(
        self,
        image_ids: Sequence[ImageId],
        direction: Weights,
        score_threshold: float,
        labels: PseudoLabels,  # noqa: ARG002
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """Return the slopes of `loss_slopes`, and the number of detections above the threshold."""
        counts = [float((detections.scores >= score_threshold).sum()) for detections in self.detections(image_ids)]
        return self.loss_slopes(image_ids, {}, direction), np.array(counts, dtype=np.float32)


class FakeDetector(FakeDerivatives, FakeClassProbabilities, FakeFeatures, FakeMasks, FakeLossPredictions):
    """A detector without pixels that serves every need.

    Every answer is a pure function of the image id. Images whose ids are congruent modulo `distinct` look the same.
    """

    gives = frozenset(Need)


def _ellipses(boxes: np.ndarray) -> np.ndarray:
    """Return the ellipse inside each box `[n, 4]` as a mask `[n, 64, 64]`."""
    y, x = np.mgrid[:64, :64]
    masks = np.zeros((len(boxes), 64, 64), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        across = (2 * x - left - right) / (right - left)
        down = (2 * y - top - bottom) / (bottom - top)
        mask[across**2 + down**2 <= 1] = 1
    return masks


def fake_annotations(image_id: ImageId) -> Annotations:
    """Return 0 to 3 boxes, a pure function of the id."""
    generator = rng(0, "truth", int(image_id))
    count = int(generator.integers(0, 4))
    corner = generator.uniform(0, 40, (count, 2))
    return Annotations(
        boxes=np.concatenate([corner, corner + 10], axis=1),
        labels=generator.integers(0, 3, count),
        crowd=np.zeros(count, dtype=np.bool_),
        trainable=np.ones(count, dtype=np.bool_),
    )


def make_query(
    *,
    unlabeled: int = 60,
    labeled: int = 12,
    count: int = 9,
    random_seed: int = 0,
    round_: int = 1,
    distinct: int = 10_000,
    truth: bool = False,
) -> Query:
    """Return a query over a `FakeDetector`; the ids are sparse, unsorted, and do not start at 0."""
    ids = [ImageId(int(i)) for i in rng(3, "ids").permutation(100_000)[: unlabeled + labeled] * 13 + 5]
    labeled_ids, unlabeled_ids = ids[:labeled], ids[labeled:]
    reference_ids = [ImageId(i) for i in range(900_000_000, 900_000_005)]
    return Query(
        round=round_,
        unlabeled=tuple(unlabeled_ids),
        labeled=_annotated(labeled_ids),
        sizes=MappingProxyType(dict.fromkeys(ids, (64, 64))),
        truth=_annotated(unlabeled_ids if truth else []),
        reference=_annotated(reference_ids),
        detector=FakeDetector(distinct=distinct),
        reference_detector=FakeDetector(distinct=distinct),
        count=count,
        random_seed=random_seed,
    )


def _annotated(image_ids: Sequence[ImageId]) -> Mapping[ImageId, Annotations]:
    return MappingProxyType({image_id: fake_annotations(image_id) for image_id in image_ids})
