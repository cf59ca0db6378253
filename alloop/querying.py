"""One round's question to the strategy: what it may see, and how many images it has to rank."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from alloop.costs import Amount
from alloop.detectors.protocol import Detector
from alloop.fitting import Workplace, fitted
from alloop.pool import Pool
from alloop.query import Query
from alloop.strategy import Strategy, checked_selection, uses_labels
from alloop.values import Annotations, ImageId, Selection


@dataclass(frozen=True)
class Asking:
    """A strategy with its query, of which only the number of images is still open."""

    strategy: Strategy
    query: Query
    mean_boxes: float

    @property
    def unlabeled(self) -> int:
        """How many images there are to choose from."""
        return len(self.query.unlabeled)

    def select(self, count: int) -> Selection:
        """Rank so many images."""
        fields = {name: getattr(self.query, name) for name in Query.__dataclass_fields__}
        return checked_selection(self.strategy, Query(**{**fields, "count": count}))


def asking(
    place: Workplace,
    round_: int,
    labeled: Mapping[ImageId, Annotations],
    detector: Detector,
    strategy: Strategy | None = None,
    without: Collection[ImageId] = (),
) -> Asking | None:
    """What a round asks of the strategy of the config, or of another; None when the pool or the budget has run out.

    Images `without` are left out: people have set them aside.
    """
    experiment, spent = place.experiment, place.ledger.spent()
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
        detector=fitted(place, train, place.caches["pool"], detector, round_),
        reference_detector=fitted(place, experiment.splits.reference, place.caches["reference"], detector),
        count=0,
        budget_left=left,
        progress=place.progress.step,
        random_seed=config.random_seed,
    )
    return Asking(strategy, query, spent.boxes / max(1, spent.images))


def first_count(query_size: Amount, mean_boxes: float, unlabeled: int) -> int:
    """How many images to have ranked at first: as asked, or enough for the boxes at the mean so far."""
    if query_size.unit == "images":
        return min(query_size.number, unlabeled)
    return min(unlabeled, max(1, round(1.5 * query_size.number / max(mean_boxes, 0.1)) + 8))
