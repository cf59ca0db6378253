"""One round's query: what the strategy may see, and the boxes that each image is expected to cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64

from alloop.detectors.protocol import Detector
from alloop.loop.context import RunContext
from alloop.loop.fitting import fitted
from alloop.loop.pool import Pool
from alloop.query import Query
from alloop.randomness import rng
from alloop.strategy import Strategy, checked_selection, uses_labels
from alloop.values import Annotations, Detections, ImageId, Selection

COUNTED = 200  # unlabeled images at most on which detections are compared with the boxes of the seed set


@dataclass(frozen=True)
class QuerySession:
    """A strategy with its query, of which only the number of images is still open.

    Attributes:
        strategy: the strategy that ranks.
        query: what it sees.
        mean_boxes: boxes per image over all labeled images.
        seed_boxes: boxes per image over the seed set, which no strategy chose.
    """

    strategy: Strategy
    query: Query
    mean_boxes: float
    seed_boxes: float

    @property
    def unlabeled(self) -> int:
        """The number of images to choose from."""
        return len(self.query.unlabeled)

    def select(self, count: int) -> Selection:
        """Let the strategy rank `count` images."""
        return checked_selection(self.strategy, replace(self.query, count=count))

    def predicted_boxes(self, selection: Selection) -> list[float]:
        """Return the boxes that each selected image is expected to cost: its detections above `_threshold`."""
        if selection.predicted_boxes is not None:
            return [float(boxes) for boxes in selection.predicted_boxes]
        detections = self.query.detector.detections(selection.image_ids)
        return [float(boxes) for boxes in expected_boxes(detections, self._threshold)]

    @cached_property
    def _threshold(self) -> float:
        """The `counting_threshold` on some unlabeled images: on labeled ones the detector was trained to be right."""
        ids, query = sorted(self.query.unlabeled), self.query
        if len(ids) > COUNTED:
            rows = rng(query.random_seed, query.round, "counted").choice(len(ids), COUNTED, replace=False)
            ids = [ids[row] for row in sorted(rows)]
        return counting_threshold(query.detector.detections(ids), round(self.seed_boxes * len(ids)))


def open_query(
    context: RunContext,
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    detector: Detector,
    strategy: Strategy | None = None,
    without: Collection[ImageId] = (),
) -> QuerySession | None:
    """Return the query of a round; None when the pool or the budget is exhausted.

    Args:
        context: the run.
        round_: the round that asks.
        labeled: every labeled image with its annotations.
        detector: the detector of this round.
        strategy: the strategy to ask; that of the config by default.
        without: images to leave out, because people have set them aside.
    """
    experiment, spent = context.experiment, context.ledger.spent()
    budget, pool = experiment.config.loop.budget, experiment.splits.train
    strategy = strategy or experiment.strategy
    unlabeled = Pool.of(pool.dataset.images, labeled.keys()).unlabeled
    if without:
        unlabeled = tuple(image_id for image_id in unlabeled if image_id not in without)
    exhausted = budget is not None and spent.of(budget.unit) >= budget.number
    if not unlabeled or exhausted:
        return None
    reference = experiment.splits.reference
    query = Query(
        round=round_,
        unlabeled=unlabeled,
        labeled=MappingProxyType(dict(labeled)),
        sizes=MappingProxyType({i: (r.width, r.height) for i, r in pool.dataset.images.items()}),
        truth=MappingProxyType(pool.dataset.annotations if uses_labels(strategy) else {}),
        reference=MappingProxyType(reference.dataset.annotations),
        detector=fitted(context, pool, context.caches.pool, detector, round_),
        reference_detector=fitted(context, reference, context.caches.reference, detector),
        count=0,
        progress=context.progress.step,
        random_seed=experiment.config.random_seed,
    )
    mean, charged = spent.boxes / max(1, spent.images), context.ledger.charged()
    seed_boxes = charged[0].boxes / charged[0].images if charged else 0.0  # the first batch is asked for before any
    # without a box so far every image is expected to hold one: a quota in boxes must not ask for the whole pool
    return QuerySession(strategy, query, mean, seed_boxes or mean or 1.0)


def counting_threshold(detections: Sequence[Detections], boxes: int) -> float:
    """Return the score at which the number of detections equals the expected number of boxes.

    A young detector's own threshold lets ten detections per box through. The threshold is 0 where there are fewer
    detections than boxes, and infinite where no box is expected.
    """
    scores = np.sort(np.concatenate([np.zeros(0), *(image.scores for image in detections)]))[::-1]
    if boxes == 0:
        return np.inf
    return float(scores[boxes - 1]) if boxes <= len(scores) else 0.0


def expected_boxes(detections: Sequence[Detections], threshold: float) -> Int64[np.ndarray, " n"]:
    """Return the number of detections of each image that reach the threshold."""
    return np.array([(image.scores >= threshold).sum() for image in detections], dtype=np.int64)
