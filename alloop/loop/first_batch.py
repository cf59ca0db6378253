"""The images that are labeled first, before anything is trained: at random, or by a strategy that needs no label."""

from collections.abc import Iterable, Iterator, Mapping

from alloop.config import ExperimentConfig
from alloop.detectors.protocol import Detector
from alloop.errors import ConfigError
from alloop.loop.buying import Walk
from alloop.loop.context import RunContext
from alloop.loop.experiment import detector_gives, lacking
from alloop.loop.purchase_rules import random_seed_set, rules_of
from alloop.loop.querying import open_query
from alloop.predictions.fitted import PredictedDetector
from alloop.query import Need
from alloop.strategy import Strategy, depends_on_count, make_strategy
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

    def _untrained(self) -> Detector:
        """Return the detector with the weights that training starts from."""
        detector = self._context.experiment.new_detector(0)
        detector.module.to(self._context.experiment.device)
        return detector


def first_strategy(config: ExperimentConfig, table: Mapping[str, str]) -> Strategy | None:
    """Return the strategy that picks the seed set; None for random images.

    Raises:
        ConfigError: an unknown strategy, one that needs more than embeddings, embeddings that nobody gives or uses, or
            two ways to pick the seed set.
    """
    name = config.loop.first_batch if config.loop.first_batch != "random" else config.oracle.first_batch
    if name == "random":
        if config.loop.embeddings is not None:
            msg = "loop.embeddings: the seed set is random and does not use them; set loop.first_batch to max_herding"
            raise ConfigError(msg)
        return None
    if config.loop.seed_images is not None:
        msg = f"loop.first_batch: {name!r} would pick the seed set, and loop.seed_images names it; remove one of them"
        raise ConfigError(msg)
    strategy = make_strategy(name, {}, table)
    needed = lacking(strategy, frozenset({Need.EMBEDDINGS}))
    if needed:
        msg = (
            f"loop.first_batch: {name!r} needs {', '.join(needed)}, and nothing is trained yet; "
            "try max_herding or k_center"
        )
        raise ConfigError(msg)
    if config.loop.embeddings is None and (config.detector.is_external or lacking(strategy, detector_gives(config))):
        msg = (
            f"loop.first_batch: {name!r} needs embeddings, and detector {config.detector.name!r} gives none before it "
            "is trained; name a file of them in loop.embeddings"
        )
        raise ConfigError(msg)
    if depends_on_count(strategy):
        msg = f"loop.first_batch: {name!r} ranks otherwise for another number of images; try max_herding or k_center"
        raise ConfigError(msg)
    return strategy
