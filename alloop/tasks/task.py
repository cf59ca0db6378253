"""What the loop asks of a task. Nothing else in the loop, the ledger and the studies knows which task it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from alloop.class_values import Truth
from alloop.config.blocks import DataConfig, EvaluationConfig
from alloop.data.cache_folder import CacheFolder
from alloop.data.splits import Split, Splits
from alloop.evaluation.metrics import Metrics
from alloop.query import FittedDetector, Need, Query
from alloop.values import ImageId

if TYPE_CHECKING:
    from alloop.training.batches import TrainingBatches

Counter = Callable[[Sequence[ImageId]], Sequence[float]]
"""From images to the number of boxes, or of labels, that each is expected to cost."""


class Task(Protocol):
    """A kind of label: how it is read, trained on, measured and expected.

    Attributes:
        name: what the config calls it.
        unit: what is paid for, in the plural.
        reported: the metrics that are reported after each round, with their names in texts.
        needs: what the network of the task must give.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    reported: ClassVar[Mapping[str, str]]
    needs: ClassVar[frozenset[Need]]

    def load_splits(self, data: DataConfig, *, for_people: bool = False, kept: CacheFolder | None = None) -> Splits:
        """Read and validate the data of a config.

        Args:
            data: the block.
            for_people: keep the images of the pool that nobody has labeled.
            kept: where other runs of a study left what they computed.

        Raises:
            ConfigError: a file that is not there, or an unknown format.
            DataError: data that cannot be used.
        """

    def refuse_missing(self, data: DataConfig) -> None:
        """Refuse files that are not there before anything is read.

        Raises:
            ConfigError: with the key, the path, and the most similar name beside it.
        """

    def notes(self, splits: Mapping[str, Split], *, labels_are_known: bool) -> list[str]:
        """Return what a user should know about the data, one sentence each; `labels_are_known` of those of the pool."""

    def doubts(self, splits: Splits, scaled: tuple[int, int] | None) -> list[str]:
        """Return what may be too small or too rare in the data to be found or measured, one sentence each.

        Args:
            splits: the data.
            scaled: short and long side that images are scaled to; None where another program decides.
        """

    def figures(self, split: Split, scaled: tuple[int, int] | None) -> dict[str, str]:
        """Return the sizes of a split in words, by column of a table; see `doubts`."""

    def has_labels(self, split: Split) -> bool:
        """Return whether anything in a split can be trained on."""

    def check(self, pool: Split, gives: frozenset[Need], name: str) -> None:
        """Refuse a pool that a network cannot learn from.

        Args:
            pool: the pool.
            gives: the needs that the network serves.
            name: of the network in the config.

        Raises:
            ConfigError: with the reason.
        """

    def batches(self, labeled: Mapping[ImageId, Truth], settings: Mapping[str, Any]) -> "TrainingBatches":
        """Return the batches of labeled images; `settings` are further arguments of `TrainingBatches`."""

    def fitted(self, *args: Any, **settings: Any) -> FittedDetector:
        """Return a trained network as strategies and the evaluation see it; the arguments are those of its class."""

    def evaluated(
        self, fitted: FittedDetector, test: Split, settings: EvaluationConfig, gives: frozenset[Need]
    ) -> tuple[Metrics, bytes | None]:
        """Return the metrics on the test split, and the predictions as a file where they are to be kept."""

    def counter(self, query: Query, mean: float) -> Counter:
        """Return what predicts the cost of images, given the mean cost of labeled images that no strategy chose."""
