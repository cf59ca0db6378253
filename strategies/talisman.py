"""Talisman (Kothawade et al. 2022), as CSOD adapts it: images most mutually informative with objects of each class.

With region features of unit length, an image u is as similar to a query image q as their best pair of
boxes, the query's boxes being those of the class,

    s(q, u) = max over a in q, b in u of cos(r_a, r_b)

and of the images left the one is taken that raises a submodular mutual information with the
class's queries Q most, turn by turn over the classes (U: all images, A: those chosen):

    gcmi      2 lambda sum over A and Q of s(q, u)                      (lambda is 1)
    flqmi     sum_q max_{u in A} s(q, u) + eta sum_{u in A} max_q s(q, u)
    flvmi     sum_{v in U} min(max_{u in A} s(v, u), eta max_q s(v, q))
    logdetmi  log det S_A - log det(S_A - eta^2 S_AQ S_Q^-1 S_QA)

Queries are the labeled images that show the class; where there is none, `queries` random images of
the class are taken first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from jaxtyping import Float

from alloop.errors import StrategyError
from alloop.query import Need, Query
from alloop.values import Annotations, ImageId, Selection
from strategies.csod import unit
from strategies.instances import CHUNK, Features, Source, instances_of, needs_of, region_vectors, trainable

Function = Literal["gcmi", "flqmi", "flvmi", "logdetmi"]
MOST_PAIRS = 1 << 29  # entries of the image by image similarity that `flvmi` holds: 2 GiB
_LEAST = 1e-6  # variance left of an image that the others explain; max of cosines is not quite a kernel


class Objects(NamedTuple):
    """All boxes of some images, image by image."""

    vector: Float[np.ndarray, "n d"]  # of unit length
    label: np.ndarray  # [n]
    image: np.ndarray  # [n], ascending row of the image


class Information(Protocol):
    """A submodular mutual information with one class's queries: what each image would add, and taking one."""

    def gains(self) -> np.ndarray:
        """What each image would add, `[images]`."""

    def take(self, image: int) -> None:
        """Add an image to A."""


class GraphCut:
    """gcmi: modular, so nothing is remembered."""

    def __init__(self, to_queries: np.ndarray) -> None:
        """`to_queries` is s(q, u), `[queries, images]`."""
        self._gains: np.ndarray = 2 * to_queries.sum(axis=0)

    def gains(self) -> np.ndarray:
        """2 sum_q s(q, u)."""
        return self._gains

    def take(self, image: int) -> None:
        """What is in A changes nothing."""


class FacilityLocation:
    """flqmi."""

    def __init__(self, to_queries: np.ndarray, eta: float) -> None:
        """Begin with A empty: a maximum over nothing is 0."""
        self._s, self._modular = to_queries, eta * to_queries.max(axis=0)
        self._covered = np.zeros(len(to_queries))

    def gains(self) -> np.ndarray:
        """How much better each query would be covered, and the likeness itself."""
        return np.asarray(np.maximum(self._s - self._covered[:, None], 0).sum(axis=0) + self._modular)

    def take(self, image: int) -> None:
        """Queries are covered as well as by their nearest image."""
        np.maximum(self._covered, self._s[:, image], out=self._covered)


class PoolFacilityLocation:
    """flvmi."""

    def __init__(self, to_queries: np.ndarray, among: np.ndarray, eta: float) -> None:
        """`among` is s(v, u), `[images, images]`."""
        self._s, self._most = among, eta * to_queries.max(axis=0)
        self._covered = np.zeros(len(among))

    def gains(self) -> np.ndarray:
        """How much better all images would be covered, each up to its likeness to a query."""
        now = np.minimum(self._covered, self._most).sum()
        return np.asarray([self._value(column) - now for column in self._s.T])

    def _value(self, column: np.ndarray) -> float:
        return float(np.minimum(np.maximum(self._covered, column), self._most).sum())

    def take(self, image: int) -> None:
        """Images are covered as well as by their nearest image in A."""
        np.maximum(self._covered, self._s[:, image], out=self._covered)


class LogDeterminant:
    """logdetmi, both determinants growing by one Cholesky row a pick (Chen et al. 2018), so no kernel is stored."""

    def __init__(
        self, to_queries: np.ndarray, of_queries: np.ndarray, row: Callable[[int], np.ndarray], eta: float
    ) -> None:
        """`of_queries` is s(q, q'); `row(u)` gives s(u, v) for all images v."""
        self._row = row
        inverse = np.linalg.pinv(of_queries, hermitian=True)
        self._explained = eta**2 * inverse @ to_queries  # [queries, images]
        self._to_queries = to_queries
        images = to_queries.shape[1]
        ones = np.ones(images)  # s(u, u)
        rest = ones - np.einsum("qu,qu->u", to_queries, self._explained)
        self._variance = [ones, np.maximum(rest, _LEAST)]
        self._factors: list[list[np.ndarray]] = [[], []]

    def gains(self) -> np.ndarray:
        """Log of the variance that A leaves, over that which A and Q leave."""
        free, given = self._variance
        return np.asarray(np.log(free) - np.log(given))

    def take(self, image: int) -> None:
        """One row of both Cholesky factors."""
        plain = self._row(image)
        rows = (plain, plain - self._to_queries[:, image] @ self._explained)
        for which, row in enumerate(rows):
            factors, variance = self._factors[which], self._variance[which]
            known = sum((factor[image] * factor for factor in factors), np.zeros_like(row))
            most = np.sqrt(variance)  # by Cauchy and Schwarz, which a maximum of cosines need not obey
            factor = np.clip((row - known) / most[image], -most, most)
            factors.append(factor)
            self._variance[which] = np.maximum(variance - factor**2, _LEAST)


def similarity(rows: Objects, columns: Objects, images: int) -> np.ndarray:
    """S between the images of two sets of objects, `[row images, images]`; -1 where a column image has no object."""
    names, starts = np.unique(rows.image, return_index=True)
    column_names, column_starts = np.unique(columns.image, return_index=True)
    found = np.full((len(names), images), -1.0, dtype=np.float32)
    for place, (start, end) in enumerate(zip(starts, [*starts[1:], len(rows.image)], strict=True)):
        best = (rows.vector[start:end] @ columns.vector.T).max(axis=0)  # [column objects]
        found[place, column_names] = np.maximum.reduceat(best, column_starts)
    return found


@dataclass(frozen=True)
class Talisman:
    """Images most mutually informative with objects of each class.

    Attributes:
        annotations: boxes and classes are `predicted`, or the `true` ones, which only pruning and simulated studies
            allow.
        function: the mutual information; `flvmi` holds the likeness of all pairs of images.
        eta: how much the likeness to queries counts.
        queries: random images taken first for a class that no labeled image shows.
        features: `pooled`, `classifier` or `gradient`, as for csod.
        score_threshold: less confident predictions are no instances.
    """

    annotations: Source = "predicted"
    function: Function = "flqmi"
    eta: float = 1.0
    queries: int = 3
    features: Features = "pooled"
    score_threshold: float = 0.3

    needs: ClassVar[frozenset[Need]] = frozenset({Need.DETECTIONS, Need.REGION_FEATURES})
    source: ClassVar[str] = "Kothawade et al. 2022 (Talisman)"
    greedy: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """What is asked of the detector depends on the features; raise ValueError on numbers that make no sense."""
        object.__setattr__(self, "needs", needs_of(self.features))
        if self.queries < 1 or not self.eta >= 0:
            raise ValueError(f"queries and eta: expected at least 1 and 0, found {self.queries} and {self.eta}")

    def select(self, query: Query) -> Selection:
        """Picks in order with what they add; images without an instance come last, in random order."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        found = {**instances_of(query, candidates, self.annotations, self.score_threshold), **query.labeled}
        objects = self._objects(query, candidates, found)
        known = self._objects(query, labeled, found)
        query.progress("selecting", 0, query.count)
        left = np.zeros(len(candidates), dtype=np.bool_)
        left[objects.image] = True
        rows = self._first(query, objects, known, left)
        gains = [0.0] * len(rows)
        informations = self._informations(objects, known, rows, len(candidates)) if left.any() else []
        while len(rows) < query.count and left.any() and informations:
            for information in informations:
                if len(rows) == query.count or not left.any():
                    break
                worth = np.where(left, information.gains(), -np.inf)
                row = int(np.argmax(worth))
                rows.append(row)
                gains.append(float(worth[row]))
                left[row] = False
                for each in informations:
                    each.take(row)
        query.progress("selecting", len(rows), query.count)
        rest = np.setdiff1d(np.arange(len(candidates)), rows)[: query.count - len(rows)].tolist()
        utilities = np.array([*gains, *[min(gains, default=0.0)] * len(rest)])
        chosen = [candidates[row] for row in [*rows, *rest]]
        return Selection(tuple(chosen), utilities, np.array([len(found[i]) for i in chosen]))

    def _first(self, query: Query, objects: Objects, known: Objects, left: np.ndarray) -> list[int]:
        """Random images of each class that no labeled image shows; they are taken, and become its queries."""
        random_ = query.rng
        rows: list[int] = []
        for label in np.unique(objects.label):
            if (known.label == label).any():
                continue
            members = np.unique(objects.image[objects.label == label])
            members = members[left[members]]
            for row in random_.permutation(members)[: min(self.queries, query.count - len(rows))].tolist():
                rows.append(row)
                left[row] = False
        return rows

    def _informations(self, objects: Objects, known: Objects, first: Sequence[int], images: int) -> list[Information]:
        """One for each class that has a query."""
        among = self._among(objects, images) if self.function == "flvmi" else None
        chosen = np.isin(objects.image, first)
        made: list[Information] = []
        for label in np.unique(np.concatenate([objects.label[chosen], known.label])):
            source = known if (known.label == label).any() else objects
            keep = (source.label == label) & (chosen if source is objects else True)
            queries = Objects(source.vector[keep], source.label[keep], source.image[keep])
            to_queries = similarity(queries, objects, images)
            if self.function == "gcmi":
                made.append(GraphCut(to_queries))
            elif self.function == "flqmi":
                made.append(FacilityLocation(to_queries, self.eta))
            elif among is not None:
                made.append(PoolFacilityLocation(to_queries, among, self.eta))
            else:
                names = np.unique(queries.image)
                of_queries = similarity(queries, queries, int(names.max()) + 1)[:, names]
                made.append(LogDeterminant(to_queries, of_queries, _rows_of(objects, images), self.eta))
        return made

    def _among(self, objects: Objects, images: int) -> np.ndarray:
        if images**2 > MOST_PAIRS:
            msg = (
                f"talisman: flvmi compares all pairs of {images} images, which takes {images**2 / 2**28:.0f} GiB; "
                "choose flqmi, or choose among fewer images"
            )
            raise StrategyError(msg)
        whole = np.full((images, images), -1.0, dtype=np.float32)
        whole[np.unique(objects.image)] = similarity(objects, objects, images)
        return whole

    def _objects(self, query: Query, image_ids: Sequence[ImageId], found: dict[ImageId, Annotations]) -> Objects:
        """All boxes of the images, in the order given."""
        vectors: dict[ImageId, np.ndarray] = {}
        labels: dict[ImageId, np.ndarray] = {}
        ordered = sorted(image_ids)
        for start in range(0, len(ordered), CHUNK):
            shown = {i: trainable(found[i]) for i in ordered[start : start + CHUNK]}
            vectors |= zip(shown, region_vectors(query, shown, self.features), strict=True)
            labels |= {i: truth.labels for i, truth in shown.items()}
            query.progress("region features", min(start + CHUNK, len(ordered)), len(ordered))
        if not image_ids:
            return Objects(np.zeros((0, 1), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        counts = [len(labels[i]) for i in image_ids]
        return Objects(
            unit(np.concatenate([vectors[i] for i in image_ids])),
            np.concatenate([labels[i] for i in image_ids]),
            np.repeat(np.arange(len(image_ids)), counts),
        )


def _rows_of(objects: Objects, images: int) -> Callable[[int], np.ndarray]:
    """s(u, v) of one image u to all."""

    def row(image: int) -> np.ndarray:
        keep = objects.image == image
        own = Objects(objects.vector[keep], objects.label[keep], objects.image[keep])
        only: np.ndarray = similarity(own, objects, images)[0]
        return only

    return row
