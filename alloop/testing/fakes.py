"""A query over a detector without pixels, for checking strategies in milliseconds."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32

from alloop.query import Need, PseudoLabels, Query, Weights
from alloop.randomness import rng
from alloop.values import Annotations, Detections, ImageId, MaskPixels


class FakeDetector:
    """A detector without pixels: every answer is a pure function of the image id, some images are alike.

    Images whose ids are congruent modulo `distinct` look the same, so ties are common.
    """

    class_names = ("cat", "dog", "bird")
    gives = frozenset(Need)

    def __init__(self, *, distinct: int = 10_000, empty: int = 7) -> None:
        """`empty`: every so many images have no detection."""
        self._distinct, self._empty = distinct, empty

    def _rng(self, image_id: ImageId) -> np.random.Generator:
        return rng(0, "fake", int(image_id) % self._distinct)

    def detections(self, image_ids: Sequence[ImageId]) -> list[Detections]:
        """0 to 5 boxes an image."""
        return [self._detections(image_id) for image_id in image_ids]

    def noisy_detections(self, image_ids: Sequence[ImageId], sigma: float, random_seed: int) -> list[Detections]:  # noqa: ARG002
        """Boxes moved by up to a tenth of sigma pixels; images that look the same move alike."""
        return [self._detections(image_id, sigma) for image_id in image_ids]

    def _detections(self, image_id: ImageId, sigma: float = 0.0) -> Detections:
        random_ = self._rng(image_id)
        count = 0 if image_id % self._distinct % self._empty == 0 else int(random_.integers(1, 6))
        corner, side = random_.uniform(0, 40, (count, 2)), random_.uniform(4, 20, (count, 2))
        probabilities = random_.dirichlet(np.ones(4), count)[:, :3].reshape(count, 3)
        best = probabilities.max(axis=1, initial=0.0)
        order = np.argsort(-best, kind="stable")
        proposals = np.concatenate([corner, corner + side], axis=1)[order]
        return Detections(
            boxes=proposals + 0.1 * sigma * random_.uniform(-1, 1, (count, 1)) + 0.1,
            scores=best[order],
            labels=probabilities.argmax(axis=1)[order] if count else np.zeros(0, dtype=np.int64),
            probabilities=probabilities[order],
            masks=_ellipses(proposals),
            proposals=proposals,
        )

    def embeddings(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, "n d"]:
        """16 numbers an image."""
        return np.stack([self._rng(i).normal(size=16).astype(np.float32) for i in image_ids])

    def image_losses(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> Float32[np.ndarray, " n"]:
        """A number an image, larger with more boxes."""
        return np.array([self._rng(i).random() + len(annotations[i]) for i in image_ids], dtype=np.float32)

    def region_features(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[Float32[np.ndarray, "_ d"]]:
        """8 numbers a box."""
        return [self._rng(i).normal(size=(len(boxes[i]), 8)).astype(np.float32) for i in image_ids]

    def classifier_outputs(
        self, image_ids: Sequence[ImageId], boxes: Mapping[ImageId, Float32[np.ndarray, "_ 4"]]
    ) -> list[tuple[Float32[np.ndarray, "_ d"], Float32[np.ndarray, "_ k"]]]:
        """6 numbers a box, and a posterior over the classes and the background."""
        found = []
        for image_id in image_ids:
            random_, count = self._rng(image_id), len(boxes[image_id])
            posterior = random_.dirichlet(np.ones(4), count).reshape(count, 4)
            found.append((random_.normal(size=(count, 6)).astype(np.float32), posterior.astype(np.float32)))
        return found

    snapshots = 3

    def mask_pixels(
        self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations], snapshot: int
    ) -> list[MaskPixels]:
        """7 by 7 pixels an instance."""
        found = []
        for image_id in image_ids:
            labels = annotations[image_id].labels[annotations[image_id].trainable]
            random_ = rng(0, "pixels", int(image_id) % self._distinct, snapshot)
            logits = random_.normal(size=(len(labels), 3, 7, 7)).astype(np.float32)
            found.append(MaskPixels(logits, labels, random_.random((len(labels), 7, 7)) < 0.5))
        return found

    def loss_predictions(self, image_ids: Sequence[ImageId]) -> Float32[np.ndarray, " n"]:
        """A number an image."""
        return np.array([self._rng(i).random() for i in image_ids], dtype=np.float32)

    # the loss of image i is sum_k c_ik (w_k - t_ik)^2 / 2 in one weight of eight numbers, now at zero
    @property
    def last_layers(self) -> Mapping[str, float]:
        """One weight."""
        return {"weight": 10.0}

    def _bowl(self, image_id: ImageId) -> tuple[np.ndarray, np.ndarray]:
        random_ = self._rng(image_id)
        return random_.uniform(0.5, 2, 8), random_.normal(size=8)

    def loss_gradient(self, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]) -> Weights:  # noqa: ARG002
        """Sum of -c t."""
        bowls = [self._bowl(i) for i in image_ids]
        return {"weight": np.sum([-c * t for c, t in bowls], axis=0)}

    def curvature_product(
        self,
        image_ids: Sequence[ImageId],
        annotations: Mapping[ImageId, Annotations],  # noqa: ARG002
        vector: Weights,
    ) -> Weights:
        """Sum of c times the vector."""
        return {"weight": np.sum([self._bowl(i)[0] * vector["weight"] for i in image_ids], axis=0)}

    def loss_slopes(
        self,
        image_ids: Sequence[ImageId],
        annotations: Mapping[ImageId, Annotations],  # noqa: ARG002
        direction: Weights,
    ) -> Float32[np.ndarray, " n"]:
        """Gradient times direction."""
        bowls = [self._bowl(i) for i in image_ids]
        return np.array([-(c * t) @ direction["weight"] for c, t in bowls], dtype=np.float32)

    def pseudo_label_slopes(
        self,
        image_ids: Sequence[ImageId],
        direction: Weights,
        score_threshold: float,
        labels: PseudoLabels,  # noqa: ARG002
    ) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, " n"]]:
        """The same slopes, and the number of detections above the threshold."""
        boxes = [float((found.scores >= score_threshold).sum()) for found in self.detections(image_ids)]
        return self.loss_slopes(image_ids, {}, direction), np.array(boxes, dtype=np.float32)


def _ellipses(boxes: np.ndarray) -> np.ndarray:
    """The ellipse inside each box, on a canvas of 64 by 64."""
    y, x = np.mgrid[:64, :64]
    masks = np.zeros((len(boxes), 64, 64), dtype=np.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        across = (2 * x - left - right) / (right - left)
        down = (2 * y - top - bottom) / (bottom - top)
        mask[across**2 + down**2 <= 1] = 1
    return masks


def fake_annotations(image_id: ImageId) -> Annotations:
    """0 to 3 boxes, a pure function of the id."""
    random_ = rng(0, "truth", int(image_id))
    count = int(random_.integers(0, 4))
    corner = random_.uniform(0, 40, (count, 2))
    return Annotations(
        boxes=np.concatenate([corner, corner + 10], axis=1),
        labels=random_.integers(0, 3, count),
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
    """A query over a `FakeDetector`; ids are sparse and neither start at 0 nor follow each other."""
    ids = [ImageId(int(i)) for i in rng(3, "ids").permutation(100_000)[: unlabeled + labeled] * 13 + 5]
    known = {image_id: fake_annotations(image_id) for image_id in ids[:labeled]}
    return Query(
        round=round_,
        unlabeled=tuple(ids[labeled:]),
        labeled=MappingProxyType(known),
        sizes=MappingProxyType(dict.fromkeys(ids, (64, 64))),
        truth=MappingProxyType({image_id: fake_annotations(image_id) for image_id in ids[labeled:]}) if truth else {},
        reference=MappingProxyType({ImageId(i): fake_annotations(ImageId(i)) for i in range(900_000_000, 900_000_005)}),
        detector=FakeDetector(distinct=distinct),
        reference_detector=FakeDetector(distinct=distinct),
        count=count,
        random_seed=random_seed,
    )
