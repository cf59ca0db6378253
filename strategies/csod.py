"""CSOD (Lee et al. 2024): a coreset of images that represents every class, chosen class by class.

With r_ij the feature of the region of box j in image i, an image has one vector for each class it shows,

    p_ic = mean of r_ij over the boxes of class c

and when it is the turn of class c, with U_c the images of the class that are left and S_c those chosen,

    score_c(i) = lambda sum over j in U_c of cos(p_ic, p_jc)  -  sum over j in S_c of cos(p_ic, p_jc)      (4)

the image of largest score is chosen; it represents its class and differs from what is chosen. Turns go round the
classes until k images are chosen. A later round begins with the classes that the fewest chosen images show: a round
may ask for fewer images than there are classes, and otherwise the first ones would always be served first.

Between unit vectors u a sum of cosines is one inner product with the sum of the vectors,

    score_c(i) = u_ic . (lambda U - S)        U = sum over U_c of u_jc        S = sum over S_c of u_jc

so a turn streams once through one class's vectors, and nothing n by n is ever stored. For one class it is greedy graph
cut with 2 lambda / (1 + lambda).
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from alloop.query import Need, Query, boxed
from alloop.strategy import AnnotationSource
from alloop.values import Annotations, ImageId, Selection
from strategies.instances import instances_of, known_costs
from strategies.picks import picks_and_rest
from strategies.region_features import Features, region_needs, stream_region_vectors, unit

LambdaTable = Literal["voc", "bdd", "coco"]
CLASS_IMAGES: dict[LambdaTable, float] = {"voc": 1281, "bdd": 4000, "coco": 3864}
"""The mean number of images of a class in the data that the lambdas of a table were tuned on.

Of BDD at most 5,000 images of each class were sampled first (S2), of COCO 30,000 (S3). The number of BDD is rounded.
"""

LAMBDAS: dict[LambdaTable, dict[int, float]] = {
    "voc": {100: 0.025, 200: 0.04375, 500: 0.0625, 1000: 0.125},
    "bdd": {200: 0.075, 500: 0.0675, 1000: 0.1, 2000: 0.1875},
    "coco": {400: 0.05, 800: 0.1},
}
"""The lambda that was best for each number of chosen images (tables S1 and S2 and their text)."""


class Prototypes(NamedTuple):
    """The vectors p_ic, one for each image i and class c that it shows."""

    image: Int64[np.ndarray, " n"]  # row of the image
    label: Int64[np.ndarray, " n"]
    vector: Float[np.ndarray, "n d"]


class _Class:
    """The images of one class in ascending row order, their unit vectors, and the sums U and S."""

    def __init__(self, images: np.ndarray, vectors: np.ndarray, weight: float) -> None:
        self.images = images
        self.vectors = vectors
        self.weight = weight
        self.left = np.ones(len(images), dtype=np.bool_)
        self.sum_left = vectors.sum(axis=0, dtype=np.float64)
        self.sum_chosen = np.zeros_like(self.sum_left)

    def best(self) -> tuple[int, float]:
        """Return the image of largest score and its score; the first of those that are equal but for rounding."""
        direction = (self.weight * self.sum_left - self.sum_chosen).astype(self.vectors.dtype)
        scores = np.where(self.left, self.vectors @ direction, -np.inf)
        # no score is larger than the norm of the direction, since the vectors are of length 1
        rounding = 8 * np.finfo(direction.dtype).eps * np.linalg.norm(direction)
        position = int(np.argmax(scores >= scores.max() - rounding))
        return int(self.images[position]), float(scores[position])

    def take(self, image: int, *, represents: bool) -> None:
        """Remove an image from U_c, and add it to S_c where it represents the class."""
        position = int(np.searchsorted(self.images, image))
        self.left[position] = False
        self.sum_left -= self.vectors[position]
        if represents:
            self.sum_chosen += self.vectors[position]


def csod_greedy(
    prototypes: Prototypes,
    k: int,
    weights: float | Mapping[int, float],
    *,
    chosen: Sequence[int] = (),
    left_out: Bool[np.ndarray, " images"] | None = None,
    propagate: bool = True,
) -> tuple[list[int], list[float]]:
    """Return the image rows that class-cyclic greedy selection picks by equation (4), in order, and their scores.

    The first turn is that of the class that the fewest images of `chosen` show, of several the lowest label; with none
    chosen the classes take turns by label. Ties between images go to the lowest row. Fewer than k rows are returned
    when no class has an image left.

    Args:
        prototypes: vectors of any length; a zero vector is similar to nothing.
        k: how many images to pick.
        weights: lambda, one for all classes or one per class.
        chosen: rows that were chosen before; they count in S from the start.
        left_out: which rows may not be picked and count nowhere.
        propagate: whether a picked image also represents its other classes; otherwise it only leaves them.

    Raises:
        StrategyError: vectors that are not finite.
    """
    classes, image_classes = _classes(prototypes, weights, left_out)
    shown = Counter(label for row in chosen for label in image_classes.get(row, ()))
    for row in chosen:
        for other in image_classes.get(row, ()):
            classes[other].take(row, represents=True)
    turns = sorted(classes, key=lambda label: (shown[label], label))
    picked: list[int] = []
    scores: list[float] = []
    while len(picked) < k and any(members.left.any() for members in classes.values()):
        for label in turns:
            members = classes[label]
            if len(picked) == k or not members.left.any():
                continue
            row, score = members.best()
            picked.append(row)
            scores.append(score)
            for other in image_classes[row]:
                classes[other].take(row, represents=propagate or other == label)
    return picked, scores


def _classes(
    prototypes: Prototypes, weights: float | Mapping[int, float], left_out: np.ndarray | None
) -> tuple[dict[int, _Class], dict[int, list[int]]]:
    """Return the classes in label order, and the labels of each image."""
    use = np.ones(len(prototypes.image), dtype=np.bool_) if left_out is None else ~left_out[prototypes.image]
    order = np.flatnonzero(use)[np.lexsort((prototypes.image[use], prototypes.label[use]))]
    images, labels = prototypes.image[order], prototypes.label[order]
    vectors = unit(prototypes.vector[order])
    bounds = np.flatnonzero(np.diff(labels, prepend=-1, append=-1))
    classes: dict[int, _Class] = {}
    image_classes: dict[int, list[int]] = {}
    for start, end in itertools.pairwise(bounds.tolist()):
        label = int(labels[start])
        weight = weights[label] if isinstance(weights, Mapping) else weights
        classes[label] = _Class(images[start:end], vectors[start:end], weight)
        for row in images[start:end].tolist():
            image_classes.setdefault(row, []).append(label)
    return classes, image_classes


def published_lambda(images: int, table: LambdaTable = "voc") -> float:
    """Return the lambda that was best for this number of chosen images, interpolated between published numbers.

    Beyond the largest published number it stays as it is there.
    """
    return float(np.interp(images, list(LAMBDAS[table]), list(LAMBDAS[table].values())))


@dataclass(frozen=True)
class Csod:
    """Choose a class-balanced coreset of region features.

    Attributes:
        annotations: boxes and classes are `predicted`, or the `true` ones, which only pruning and simulated studies
            allow.
        features: `pooled` regions of the backbone (of a C4 detector, the output of its last stage for them), the
            input of the `classifier` of a two-stage detector, or the `gradient` of its loss in the classifier's
            weights.
        lambda_: weight of representing against differing; by default that of `lambda_table` for the images that are
            chosen in the end, labeled ones included, times `CLASS_IMAGES` / (mean images of a class): U is a sum, and
            `CLASS_IMAGES` is the mean of the data that the lambda was tuned on.
        lambda_table: data whose published lambdas are used: voc, bdd or coco.
        class_lambda: whether lambda is multiplied by `CLASS_IMAGES` / (images of the class), class by class.
        propagate: whether an image chosen for one class also represents its others.
        sample: number of random images of each class to choose among; all by default.
        discard: whether a first selection is discarded and another one chosen.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    features: Features = "pooled"
    lambda_: float | None = None
    lambda_table: LambdaTable = "voc"
    class_lambda: bool = False
    propagate: bool = True
    sample: int | None = None
    discard: bool = False
    score_threshold: float = 0.3

    source: ClassVar[str] = "Lee et al. 2024 (CSOD)"
    greedy: ClassVar[bool] = True  # the default lambda depends on how many images are asked for

    def __post_init__(self) -> None:
        """Raise ValueError on a negative lambda and on an empty sample."""
        if self.lambda_ is not None and not self.lambda_ >= 0:
            raise ValueError(f"lambda_: expected a number of at least 0, found {self.lambda_}")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample: expected at least 1 image per class, found {self.sample}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections, and the features of regions."""
        return region_needs(self.features)

    def select(self, query: Query) -> Selection:
        """List the picks in order with their scores; images without an instance come last, in random order."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        predicted = instances_of(query, candidates, self.annotations, self.score_threshold)
        annotations = {**predicted, **boxed(query.labeled)}
        prototypes = self.prototypes(query, [*candidates, *labeled], annotations)
        left_out = self._not_sampled(query, prototypes, len(candidates))
        choose = partial(
            csod_greedy,
            prototypes,
            query.count,
            self.lambdas(len(labeled) + query.count, prototypes),
            chosen=range(len(candidates), len(candidates) + len(labeled)),
            propagate=self.propagate,
        )
        query.progress("selecting", 0, query.count)
        if self.discard:
            left_out[choose(left_out=left_out)[0]] = True
        rows, scores = choose(left_out=left_out)
        query.progress("selecting", len(rows), query.count)
        image_ids, utilities = picks_and_rest(candidates, rows, scores, query.count)
        return Selection(image_ids, utilities, known_costs(self.annotations, annotations, image_ids))

    def prototypes(
        self, query: Query, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> Prototypes:
        """Return p_ic of the images, whose rows are their positions in `image_ids`."""
        row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        rows: list[int] = []
        labels: list[int] = []
        means: list[np.ndarray] = []
        for image_id, box_labels, vectors in stream_region_vectors(query, image_ids, annotations, self.features):
            for label in np.unique(box_labels).tolist():
                rows.append(row_of[image_id])
                labels.append(label)
                means.append(vectors[box_labels == label].mean(axis=0))
        vector = np.stack(means) if means else np.zeros((0, 1), np.float32)
        return Prototypes(np.array(rows, dtype=np.int64), np.array(labels, dtype=np.int64), vector)

    def lambdas(self, chosen: int, prototypes: Prototypes) -> dict[int, float]:
        """Return lambda by class.

        Args:
            chosen: number of images that are chosen in the end.
            prototypes: of all images; of each class no more than the sample counts.
        """
        labels, images = np.unique(prototypes.label, return_counts=True)
        images = np.minimum(images, images if self.sample is None else self.sample)
        reference, lambda_ = CLASS_IMAGES[self.lambda_table], self.lambda_
        if lambda_ is None:
            scale = 1 if self.class_lambda or not len(images) else reference / float(images.mean())
            lambda_ = published_lambda(chosen, self.lambda_table) * scale
        by_class = reference / images if self.class_lambda else np.ones(len(images))
        return dict(zip(labels.tolist(), (lambda_ * by_class).tolist(), strict=True))

    def _not_sampled(self, query: Query, prototypes: Prototypes, candidates: int) -> np.ndarray:
        """Return which images are candidates outside the random sample of their classes; no labeled image is."""
        images = candidates + len(query.labeled)
        if self.sample is None:
            return np.zeros(images, dtype=np.bool_)
        generator = query.rng
        left_out = np.arange(images) < candidates
        for label in np.unique(prototypes.label):
            members = np.sort(prototypes.image[(prototypes.label == label) & (prototypes.image < candidates)])
            left_out[generator.permutation(members)[: self.sample]] = False
        return left_out
