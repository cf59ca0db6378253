"""One round's query: what the strategy may see, and the boxes that each image is expected to cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from alloop.class_values import Truth
from alloop.loop.context import RunContext
from alloop.loop.fitting import RoundDetector, fitted
from alloop.loop.pool import Pool
from alloop.query import Query
from alloop.strategy import Strategy, checked_selection, uses_labels
from alloop.tasks.task import Counter, Task
from alloop.values import ImageId, Selection


@dataclass(frozen=True)
class QuerySession:
    """A strategy with its query, of which only the number of images is still open.

    Attributes:
        task: says what images are expected to cost.
        strategy: the strategy that ranks.
        query: what it sees.
        mean_boxes: boxes per image over all labeled images.
        seed_boxes: boxes per image over the seed set, which no strategy chose.
    """

    task: Task
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

    def predicted_boxes(self, selection: Selection) -> Sequence[float]:
        """Return the boxes that each selected image is expected to cost, by the strategy, else by the task."""
        if selection.predicted_boxes is not None:
            return [float(boxes) for boxes in selection.predicted_boxes]
        return self._expected(selection.image_ids)

    def recorded_boxes(self, selection: Selection) -> Sequence[float | None]:
        """Return what is recorded beside true boxes: the predicted ones, None where the strategy knows no detector.

        Nothing is priced by them there, and for `random` to score images would be most of the work of its queries.
        """
        if selection.predicted_boxes is None and not self.strategy.needs:
            return [None] * len(selection.image_ids)
        return self.predicted_boxes(selection)

    @cached_property
    def _expected(self) -> Counter:
        return self.task.counter(self.query, self.seed_boxes)


def open_query(
    context: RunContext,
    round_: int,
    labeled: Mapping[ImageId, Truth],
    detector: RoundDetector,
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
    return QuerySession(experiment.task, strategy, query, mean, seed_boxes or mean or 1.0)
