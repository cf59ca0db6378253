"""The images that are labeled first, before anything is trained: at random, or by a strategy that needs no label."""

from collections.abc import Iterable, Iterator, Mapping

from alloop.detectors.protocol import Network
from alloop.loop.buying import Walk
from alloop.loop.context import RunContext
from alloop.loop.purchase_rules import random_seed_set, rules_of
from alloop.loop.querying import open_query
from alloop.predictions.fitted import PredictedDetector
from alloop.strategy import Strategy
from alloop.values import ImageId


class FirstBatch:
    """An order of the pool that a seed set is taken from, under the rules of purchases.

    Attributes:
        utilities: the strategy's number for each image that was offered; none where the order is random.
    """

    def __init__(
        self,
        context: RunContext,
        strategy: Strategy | None,
        hashes: Mapping[ImageId, int],
        at_first: int,
        seen: PredictedDetector | None = None,
    ) -> None:
        """Prepare the order.

        Args:
            context: the run.
            strategy: the strategy that orders; None for random order.
            hashes: the perceptual hashes of the pool, for `loop.min_distance`. A distance of embeddings does not hold.
            at_first: how many images are ranked at first; twice as many follow whenever that was not enough.
            seen: what the strategy sees instead of the detector; None for the detector with its first weights.
        """
        self.utilities: dict[ImageId, float] = {}
        self._context, self._strategy, self._hashes, self._at_first = context, strategy, hashes, at_first
        self._seen = seen

    def __iter__(self) -> Iterator[ImageId]:
        """Offer one image after the other."""
        experiment = self._context.experiment
        if self._strategy is None:
            return iter(random_seed_set(experiment, self._hashes))
        rules = rules_of(experiment.config.loop, (), self._hashes, experiment.splits.train.dataset.groups, None)(())
        return iter(Walk(self._ranked(self._strategy), rules, take_passed_over=True))

    def _ranked(self, strategy: Strategy) -> Iterable[ImageId]:
        """Yield the ranking by embeddings of the first weights or of a file; its head is the same at any length."""
        session = open_query(self._context, 0, {}, self._seen or self._untrained(), strategy)
        assert session is not None  # nothing is labeled or paid yet
        done, count = 0, min(self._at_first, session.unlabeled)
        while done < count:
            selection = session.select(count)
            self.utilities |= dict(zip(selection.image_ids, map(float, selection.utilities), strict=True))
            yield from selection.image_ids[done:]
            done, count = count, min(2 * count, session.unlabeled)

    def _untrained(self) -> Network:
        """Return the detector with the weights that training starts from."""
        detector = self._context.experiment.new_detector(0)
        detector.module.to(self._context.experiment.device)
        return detector
