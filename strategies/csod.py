"""CSOD (Lee et al. 2024): a coreset of images that represents every class, chosen class by class.

With r_ij the feature of the region of box j in image i, an image has one vector a class it shows,

    p_ic = mean of r_ij over the boxes of class c

and when it is the turn of class c, with U_c the images of the class that are left and S_c those chosen,

    score_c(i) = lambda sum over j in U_c of cos(p_ic, p_jc)  -  sum over j in S_c of cos(p_ic, p_jc)      (4)

the image of largest score is chosen; it represents its class and differs from what is chosen. Turns
go round the classes until k images are chosen. Between unit vectors u a sum of cosines is one inner
product with the sum of the vectors,

    score_c(i) = u_ic . (lambda U - S)        U = sum over U_c of u_jc        S = sum over S_c of u_jc

so a turn streams once through one class's vectors, and nothing n by n is ever stored. For one class
it is greedy graph cut with 2 lambda / (1 + lambda).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.values import Annotations, ImageId, Selection
from strategies.instances import CHUNK, Features, Source, instances_of, needs_of, region_vectors, trainable

CLASS_IMAGES = 1281  # mean images of a class in the data that the published lambdas were tuned on
# lambda that was best at each number of images (tables S1 and S2 and their text)
LAMBDAS: dict[str, dict[int, float]] = {
    "voc": {100: 0.025, 200: 0.04375, 500: 0.0625, 1000: 0.125},
    "bdd": {200: 0.075, 500: 0.0675, 1000: 0.1, 2000: 0.1875},
    "coco": {400: 0.05, 800: 0.1},
}


class Prototypes(NamedTuple):
    """One vector for each (image, class) that occurs."""

    image: Int64[np.ndarray, " n"]  # row of the image
    label: Int64[np.ndarray, " n"]
    vector: Float[np.ndarray, "n d"]


class _Class:
    """One class's turn: its images in ascending row order, their unit vectors, and the two running sums."""

    def __init__(self, image: np.ndarray, vectors: np.ndarray, weight: float) -> None:
        self.images, self.vectors, self.weight = image, vectors, weight
        self.left = np.ones(len(image), dtype=np.bool_)
        self.rest = vectors.sum(axis=0, dtype=np.float64)
        self.chosen = np.zeros_like(self.rest)

    def best(self) -> tuple[int, float]:
        """The image of largest score and its score; the first of those that are equal but for rounding."""
        towards = (self.weight * self.rest - self.chosen).astype(self.vectors.dtype)
        scores = np.where(self.left, self.vectors @ towards, -np.inf)
        rounding = 8 * np.finfo(towards.dtype).eps * np.linalg.norm(towards)  # no score is larger than that norm
        place = int(np.argmax(scores >= scores.max() - rounding))
        return int(self.images[place]), float(scores[place])

    def take(self, image: int, *, represents: bool) -> None:
        """Move an image from the rest to the chosen, or only out of the rest."""
        place = int(np.searchsorted(self.images, image))
        self.left[place] = False
        self.rest -= self.vectors[place]
        if represents:
            self.chosen += self.vectors[place]


def csod_greedy(
    prototypes: Prototypes,
    k: int,
    weights: float | Mapping[int, float],
    *,
    chosen: Sequence[int] = (),
    left_out: Bool[np.ndarray, " images"] | None = None,
    propagate: bool = True,
) -> tuple[list[int], list[float]]:
    """The image rows that class-cyclic greedy selection picks by equation (4), in order, and their scores.

    Ties go to the lowest row. Fewer than k come back when no class has an image left.

    Args:
        prototypes: vectors of any length; a zero vector is similar to nothing.
        k: how many images to pick.
        weights: lambda, one for all classes or one a class.
        chosen: rows that were chosen before; they count in S from the start.
        left_out: rows that may not be picked and count nowhere.
        propagate: a picked image also represents its other classes; otherwise it only leaves them.

    Raises:
        StrategyError: vectors that are not finite.
    """
    classes, of_image = _classes(prototypes, weights, left_out)
    for row in chosen:
        for other in of_image.get(row, ()):
            classes[other].take(row, represents=True)
    picked: list[int] = []
    scores: list[float] = []
    while len(picked) < k and any(members.left.any() for members in classes.values()):
        for label, members in classes.items():
            if len(picked) == k or not members.left.any():
                continue
            row, score = members.best()
            picked.append(row)
            scores.append(score)
            for other in of_image[row]:
                classes[other].take(row, represents=propagate or other == label)
    return picked, scores


def _classes(
    prototypes: Prototypes, weights: float | Mapping[int, float], left_out: np.ndarray | None
) -> tuple[dict[int, _Class], dict[int, list[int]]]:
    """The classes in label order, and the classes of each image."""
    use = np.ones(len(prototypes.image), dtype=np.bool_) if left_out is None else ~left_out[prototypes.image]
    order = np.flatnonzero(use)[np.lexsort((prototypes.image[use], prototypes.label[use]))]
    image, label = prototypes.image[order], prototypes.label[order]
    vectors = unit(prototypes.vector[order])
    bounds = np.flatnonzero(np.diff(label, prepend=-1, append=-1))
    classes: dict[int, _Class] = {}
    of_image: dict[int, list[int]] = {}
    for start, end in itertools.pairwise(bounds.tolist()):
        name = int(label[start])
        weight = weights[name] if isinstance(weights, Mapping) else weights
        classes[name] = _Class(image[start:end], vectors[start:end], weight)
        for row in image[start:end].tolist():
            of_image.setdefault(row, []).append(name)
    return classes, of_image


def unit(vectors: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Vectors of length 1, in place; zero stays zero.

    Raises:
        StrategyError: vectors that are not finite.
    """
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    if not np.isfinite(lengths).all():
        msg = f"region features of row {int(np.flatnonzero(~np.isfinite(lengths))[0])} are not finite"
        raise StrategyError(msg)
    vectors /= np.where(lengths > 0, lengths, 1)[:, None]
    return vectors


def published_lambda(images: int, table: str = "voc") -> float:
    """The lambda found best for so many images, between two published numbers in proportion."""
    return float(np.interp(images, list(LAMBDAS[table]), list(LAMBDAS[table].values())))


@dataclass(frozen=True)
class Csod:
    """A class-balanced coreset of region features.

    Attributes:
        annotations: boxes and classes are `predicted`, or the `true` ones, which only pruning and simulated studies
            allow.
        features: `pooled` regions of the backbone (of a C4 detector, what its last stage makes of them), what the
            `classifier` of a two-stage detector sees, or the `gradient` of its loss in the classifier's weights.
        lambda_: how much representing counts against differing; by default `lambda_table` at the number of images,
            times 1281 / (mean images of a class): 1281 is the mean of the data it was tuned on, and U is a sum.
        lambda_table: data whose published lambdas are taken: voc, bdd or coco.
        class_lambda: times 1281 / (images of the class), class by class.
        propagate: an image chosen for one class also represents its others.
        sample: choose among so many random images a class; all by default.
        discard: choose once, throw that away and choose again.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    features: Features = "pooled"
    lambda_: float | None = None
    lambda_table: Literal["voc", "bdd", "coco"] = "voc"
    class_lambda: bool = False
    propagate: bool = True
    sample: int | None = None
    discard: bool = False
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.REGION_FEATURES})
    source: ClassVar[str] = "Lee et al. 2024 (CSOD)"
    greedy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """What is asked of the detector depends on the features; raise ValueError on numbers that make no sense."""
        object.__setattr__(self, "needs", needs_of(self.features))
        if self.lambda_ is not None and not self.lambda_ >= 0:
            raise ValueError(f"lambda_: expected a number of at least 0, found {self.lambda_}")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample: expected at least 1 image a class, found {self.sample}")

    def select(self, query: Query) -> Selection:
        """Picks in order with their scores; images without an instance come last, in random order."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        found = {**instances_of(query, candidates, self.annotations, self.score_threshold), **query.labeled}
        prototypes = self.prototypes(query, candidates, labeled, found)
        left_out = self._not_sampled(query, prototypes, len(candidates))
        start = range(len(candidates), len(candidates) + len(labeled))
        lambdas = self._lambdas(query.count, prototypes)
        choose = partial(csod_greedy, prototypes, query.count, lambdas, chosen=start, propagate=self.propagate)
        query.progress("selecting", 0, query.count)
        if self.discard:
            left_out[choose(left_out=left_out)[0]] = True
        rows, scores = choose(left_out=left_out)
        query.progress("selecting", len(rows), query.count)
        unpicked = np.setdiff1d(np.arange(len(candidates)), rows)
        rest = unpicked[: query.count - len(rows)].tolist()
        chosen = [candidates[row] for row in [*rows, *rest]]
        utilities = np.array([*scores, *[min(scores, default=0.0)] * len(rest)])
        return Selection(tuple(chosen), utilities, np.array([len(found[i]) for i in chosen]))

    def prototypes(
        self,
        query: Query,
        candidates: Sequence[ImageId],
        labeled: Sequence[ImageId],
        found: Mapping[ImageId, Annotations],
    ) -> Prototypes:
        """p_ic of the candidates, then of the labeled images."""
        row_of = {image_id: row for row, image_id in enumerate([*candidates, *labeled])}
        ordered, parts = sorted(row_of), []
        for start in range(0, len(ordered), CHUNK):
            ids = ordered[start : start + CHUNK]
            shown = {i: trainable(found[i]) for i in ids}
            for image_id, vectors in zip(ids, region_vectors(query, shown, self.features), strict=True):
                parts += [
                    (row_of[image_id], label, vectors[shown[image_id].labels == label].mean(axis=0))
                    for label in np.unique(shown[image_id].labels).tolist()
                ]
            query.progress("prototypes", start + len(ids), len(ordered))
        if not parts:
            return Prototypes(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 1), np.float32))
        image, label, vector = zip(*parts, strict=True)
        return Prototypes(np.array(image, dtype=np.int64), np.array(label, dtype=np.int64), np.stack(vector))

    def _lambdas(self, count: int, prototypes: Prototypes) -> dict[int, float]:
        labels, images = np.unique(prototypes.label, return_counts=True)
        base = self.lambda_
        if base is None:
            scale = 1 if self.class_lambda or not len(images) else CLASS_IMAGES / float(images.mean())
            base = published_lambda(count, self.lambda_table) * scale
        return {
            label: base * CLASS_IMAGES / number if self.class_lambda else base
            for label, number in zip(labels.tolist(), images.tolist(), strict=True)
        }

    def _not_sampled(self, query: Query, prototypes: Prototypes, candidates: int) -> np.ndarray:
        """Candidates outside the random sample of their classes; labeled images are never left out."""
        images = candidates + len(query.labeled)
        if self.sample is None:
            return np.zeros(images, dtype=np.bool_)
        random_, left_out = query.rng, np.arange(images) < candidates
        for label in np.unique(prototypes.label):
            members = prototypes.image[(prototypes.label == label) & (prototypes.image < candidates)]
            members.sort()
            left_out[random_.permutation(members)[: self.sample]] = False
        return left_out
