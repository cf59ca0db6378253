"""One round's question to the strategy: what it may see, and how many images it has to rank."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Int64

from alloop.budget.amounts import Amount
from alloop.detectors.protocol import Detector
from alloop.loop.fitting import RunContext, fitted
from alloop.loop.pool import Pool
from alloop.query import Query
from alloop.randomness import rng
from alloop.strategy import Strategy, checked_selection, uses_labels
from alloop.values import Annotations, Detections, ImageId, Selection

COUNTED = 200  # unlabeled images at most on which detections are compared with the boxes of the seed set


@dataclass(frozen=True)
class QuerySession:
    """A strategy with its query, of which only the number of images is still open."""

    strategy: Strategy
    query: Query
    mean_boxes: float  # of all labeled images
    seed_boxes: float  # of the seed set's images, which no strategy chose

    @property
    def unlabeled(self) -> int:
        """How many images there are to choose from."""
        return len(self.query.unlabeled)

    def select(self, count: int) -> Selection:
        """Rank so many images."""
        fields = {name: getattr(self.query, name) for name in Query.__dataclass_fields__}
        return checked_selection(self.strategy, Query(**{**fields, "count": count}))

    def predicted_boxes(self, selection: Selection) -> list[float]:
        """What each image is expected to cost: as the strategy says, else the detections that count as boxes."""
        if selection.predicted_boxes is not None:
            return [float(boxes) for boxes in selection.predicted_boxes]
        found = self.query.detector.detections(selection.image_ids)
        return [float(boxes) for boxes in expected_boxes(found, self._threshold)]

    @cached_property
    def _threshold(self) -> float:
        """`counting_threshold` on some unlabeled images, which the detector does not know by heart."""
        ids, query = sorted(self.query.unlabeled), self.query
        if len(ids) > COUNTED:
            rows = rng(query.random_seed, query.round, "counted").choice(len(ids), COUNTED, replace=False)
            ids = [ids[row] for row in sorted(rows)]
        return counting_threshold(query.detector.detections(ids), round(self.seed_boxes * len(ids)))


def asking(
    context: RunContext,
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    detector: Detector,
    strategy: Strategy | None = None,
    without: Collection[ImageId] = (),
) -> QuerySession | None:
    """What a round asks of the strategy of the config, or of another; None when the pool or the budget has run out.

    Images `without` are left out: people have set them aside.
    """
    experiment, spent = context.experiment, context.ledger.spent()
    config, train = experiment.config, experiment.splits.train
    strategy = strategy or experiment.strategy
    unlabeled = Pool.of(train.dataset.images, labeled.keys()).unlabeled
    if without:
        unlabeled = tuple(image_id for image_id in unlabeled if image_id not in without)
    budget = config.loop.budget
    left = None if budget is None else max(0, budget.number - spent.of(budget.unit))
    if not unlabeled or left == 0:
        return None
    hidden = MappingProxyType(dict(train.dataset.annotations) if uses_labels(strategy) else {})
    query = Query(
        round=round_,
        unlabeled=unlabeled,
        labeled=MappingProxyType(dict(labeled)),
        sizes=MappingProxyType({i: (r.width, r.height) for i, r in train.dataset.images.items()}),
        truth=hidden,
        reference=MappingProxyType(dict(experiment.splits.reference.dataset.annotations)),
        detector=fitted(context, train, context.caches["pool"], detector, round_),
        reference_detector=fitted(context, experiment.splits.reference, context.caches["reference"], detector),
        count=0,
        progress=context.progress.step,
        random_seed=config.random_seed,
    )
    mean, charged = spent.boxes / max(1, spent.images), context.ledger.charged()
    seed_boxes = charged[0].boxes / charged[0].images if charged else 0.0  # the first batch is asked for before any
    # without a box so far every image is expected to hold one: a quota in boxes must not ask for the whole pool
    return QuerySession(strategy, query, mean, seed_boxes or mean or 1.0)


def counting_threshold(detections: Sequence[Detections], boxes: int) -> float:
    """The score from which as many detections are counted on some images as `boxes` are expected on them.

    A detector's own threshold lets ten detections a box through while it is young.
    """
    scores = np.sort(np.concatenate([np.zeros(0), *(found.scores for found in detections)]))[::-1]
    return float(scores[boxes - 1]) if 0 < boxes <= len(scores) else 0.0 if boxes else np.inf


def expected_boxes(detections: Sequence[Detections], threshold: float) -> Int64[np.ndarray, " n"]:
    """How many boxes each image is expected to cost."""
    return np.array([(found.scores >= threshold).sum() for found in detections], dtype=np.int64)


def first_count(query_size: Amount, mean_boxes: float, unlabeled: int) -> int:
    """How many images to have ranked at first: as asked, or enough for the boxes at the mean so far."""
    if query_size.unit == "images":
        return min(query_size.number, unlabeled)
    return min(unlabeled, max(1, round(1.5 * query_size.number / max(mean_boxes, 0.1)) + 8))
