"""Talisman (Kothawade et al. 2022), as CSOD adapts it: images most mutually informative with objects of each class.

With region features r of unit length, an image u is as similar to a query image q as their best pair of boxes, the
query's boxes being those of the class,

    s(q, u) = max over a in q, b in u of cos(r_a, r_b)

and of the images left the one is chosen that raises a submodular mutual information (`strategies.mutual_information`)
with the class's queries most, turn by turn over the classes.

Queries are the labeled images that show the class; where there is none, `queries` random images of the class are
chosen first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from alloop.errors import StrategyError
from alloop.query import Need, Query, boxed
from alloop.strategy import AnnotationSource
from alloop.values import Annotations, ImageId, Selection
from strategies.instances import instances_of, known_costs
from strategies.mutual_information import (
    FacilityLocation,
    GraphCut,
    Information,
    LogDeterminant,
    PoolFacilityLocation,
)
from strategies.picks import picks_and_rest
from strategies.region_features import Features, region_needs, stream_region_vectors, unit

Function = Literal["gcmi", "flqmi", "flvmi", "logdetmi"]
MOST_PAIRS = 1 << 29  # entries of the image by image similarity that `flvmi` holds: 2 GiB


class Objects(NamedTuple):
    """All boxes of some images, image by image."""

    vector: Float[np.ndarray, "n d"]  # of unit length
    label: np.ndarray  # [n]
    image: np.ndarray  # [n], row of the image, ascending

    def where(self, keep: np.ndarray) -> "Objects":
        """Return the objects of a mask `[n]`."""
        return Objects(self.vector[keep], self.label[keep], self.image[keep])


def similarity(rows: Objects, columns: Objects, images: int) -> np.ndarray:
    """Return s between the images of two sets of objects, `[row images, images]`.

    It is -1 where a column image has no object.
    """
    row_images, starts = np.unique(rows.image, return_index=True)
    column_images, column_starts = np.unique(columns.image, return_index=True)
    matrix = np.full((len(row_images), images), -1.0, dtype=np.float32)
    for row, (start, end) in enumerate(zip(starts, [*starts[1:], len(rows.image)], strict=True)):
        best = (rows.vector[start:end] @ columns.vector.T).max(axis=0)  # [column objects]
        matrix[row, column_images] = np.maximum.reduceat(best, column_starts)
    return matrix


def similarity_row(objects: Objects, images: int, image: int) -> np.ndarray:
    """Return s(u, v) of one image u to all images v, `[images]`."""
    row: np.ndarray = similarity(objects.where(objects.image == image), objects, images)[0]
    return row


@dataclass(frozen=True)
class Talisman:
    """Choose the images that are most mutually informative with objects of each class.

    Attributes:
        annotations: boxes and classes are `predicted`, or the `true` ones, which only pruning and simulated studies
            allow.
        function: the mutual information; `flvmi` holds the similarity of all pairs of images.
        eta: weight of the similarity to queries.
        queries: number of random images chosen first for a class that no labeled image shows.
        features: `pooled`, `classifier` or `gradient`, as for csod.
        score_threshold: detections of a lower score are no instances.
    """

    annotations: AnnotationSource = "predicted"
    function: Function = "flqmi"
    eta: float = 1.0
    queries: int = 3
    features: Features = "pooled"
    score_threshold: float = 0.3

    source: ClassVar[str] = "Kothawade et al. 2022 (Talisman)"
    greedy: ClassVar[bool] = True  # the random queries leave room for fewer picks

    def __post_init__(self) -> None:
        """Raise ValueError on no query and on a negative eta."""
        if self.queries < 1 or not self.eta >= 0:
            raise ValueError(f"queries and eta: expected at least 1 and 0, found {self.queries} and {self.eta}")

    @property
    def needs(self) -> frozenset[Need]:
        """Need detections, and the features of regions."""
        return region_needs(self.features)

    def select(self, query: Query) -> Selection:
        """List the picks in order with their gains; images without an instance come last, in random order."""
        labeled, candidates = sorted(query.labeled), query.candidates()
        predicted = instances_of(query, candidates, self.annotations, self.score_threshold)
        annotations = {**predicted, **boxed(query.labeled)}
        objects = self._objects(query, candidates, annotations)
        known = self._objects(query, labeled, annotations)
        query.progress("selecting", 0, query.count)
        left = np.zeros(len(candidates), dtype=np.bool_)
        left[objects.image] = True
        first = self._first(query, objects, known, left)
        informations = self._informations(objects, known, first, len(candidates)) if left.any() else []
        picked, gains = _greedy(informations, left, query.count - len(first))
        rows = [*first, *picked]
        query.progress("selecting", len(rows), query.count)
        image_ids, utilities = picks_and_rest(candidates, rows, [0.0] * len(first) + gains, query.count)
        return Selection(image_ids, utilities, known_costs(self.annotations, annotations, image_ids))

    def _first(self, query: Query, objects: Objects, known: Objects, left: np.ndarray) -> list[int]:
        """Draw random images of each class that no labeled image shows; they leave `left` and become its queries."""
        generator = query.rng
        rows: list[int] = []
        for label in np.setdiff1d(objects.label, known.label):
            members = np.unique(objects.image[objects.label == label])
            members = members[left[members]]
            drawn = generator.permutation(members)[: min(self.queries, query.count - len(rows))]
            rows += drawn.tolist()
            left[drawn] = False
        return rows

    def _informations(self, objects: Objects, known: Objects, first: Sequence[int], images: int) -> list[Information]:
        """Return the mutual information of each class that has a query, those with the fewest chosen images first.

        The classes take turns in this order, so a later round goes on where the classes have been served least.
        """
        build = self._builder(objects, images)
        drawn = objects.where(np.isin(objects.image, first))
        queries = []
        for label in np.unique(np.concatenate([drawn.label, known.label])):
            source = known if (known.label == label).any() else drawn
            queries.append(source.where(source.label == label))
        queries.sort(key=lambda of_class: len(np.unique(of_class.image)))  # stable: by label where equal
        return [build(of_class) for of_class in queries]

    def _builder(self, objects: Objects, images: int) -> Callable[[Objects], Information]:
        """Return a function from the queries of a class to their mutual information."""
        if self.function == "gcmi":
            return lambda queries: GraphCut(similarity(queries, objects, images))
        if self.function == "flqmi":
            return lambda queries: FacilityLocation(similarity(queries, objects, images), self.eta)
        if self.function == "flvmi":
            among = _similarity_of_all(objects, images)
            return lambda queries: PoolFacilityLocation(similarity(queries, objects, images), among, self.eta)
        return lambda queries: LogDeterminant(
            similarity(queries, objects, images),
            _similarity_within(queries),
            partial(similarity_row, objects, images),
            self.eta,
        )

    def _objects(
        self, query: Query, image_ids: Sequence[ImageId], annotations: Mapping[ImageId, Annotations]
    ) -> Objects:
        """Return all boxes of the images, in the order given."""
        if not image_ids:
            return Objects(np.zeros((0, 1), np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))
        labels: dict[ImageId, np.ndarray] = {}
        vectors: dict[ImageId, np.ndarray] = {}
        for image_id, box_labels, box_vectors in stream_region_vectors(query, image_ids, annotations, self.features):
            labels[image_id], vectors[image_id] = box_labels, box_vectors
        return Objects(
            unit(np.concatenate([vectors[i] for i in image_ids])),
            np.concatenate([labels[i] for i in image_ids]),
            np.repeat(np.arange(len(image_ids)), [len(labels[i]) for i in image_ids]),
        )


def _greedy(informations: Sequence[Information], left: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Pick up to `count` images, one per turn of each information, and return their rows and gains.

    `left` says which images may be picked; picked ones leave it.
    """
    rows: list[int] = []
    gains: list[float] = []
    while len(rows) < count and left.any() and informations:
        for information in informations:
            if len(rows) == count or not left.any():
                break
            candidates = np.where(left, information.gains(), -np.inf)
            row = int(np.argmax(candidates))
            rows.append(row)
            gains.append(float(candidates[row]))
            left[row] = False
            for each in informations:
                each.take(row)
    return rows, gains


def _similarity_of_all(objects: Objects, images: int) -> np.ndarray:
    """Return s(v, u) of all pairs of images, `[images, images]`.

    Raises:
        StrategyError: there are too many pairs.
    """
    if images**2 > MOST_PAIRS:
        msg = (
            f"talisman: flvmi compares all pairs of {images} images, which takes {images**2 / 2**28:.0f} GiB; "
            "choose flqmi, or choose among fewer images"
        )
        raise StrategyError(msg)
    matrix = np.full((images, images), -1.0, dtype=np.float32)
    matrix[np.unique(objects.image)] = similarity(objects, objects, images)
    return matrix


def _similarity_within(queries: Objects) -> np.ndarray:
    """Return s(q, q') of the images of some objects."""
    images = np.unique(queries.image)
    matrix: np.ndarray = similarity(queries, queries, int(images.max()) + 1)[:, images]
    return matrix
