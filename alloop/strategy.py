"""What a query strategy is, what it may declare besides, and how a name in a config becomes one."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from alloop.errors import StrategyError
from alloop.plugins import make_plugin, plugin_class
from alloop.query import Need, Query
from alloop.values import InstanceScores, Selection

AnnotationSource = Literal["predicted", "true"]


@runtime_checkable
class Strategy(Protocol):
    """A query strategy: a frozen dataclass whose fields are its parameters.

    One instance serves a whole run. `select` is called once or several times per round, with a growing `query.count`.
    It ranks exactly `query.count` distinct images of `query.unlabeled`, depends on nothing but the parameters and the
    query, and keeps nothing between calls. `alloop.testing.strategy_checks` has a check for each of these rules.
    """

    source: ClassVar[str]
    """Where the method was published, for example `Settles 2009`."""

    @property
    def needs(self) -> frozenset[Need]:
        """What `select` needs of the detector, the data and the training; it may depend on the parameters."""

    def select(self, query: Query) -> Selection:
        """Rank `query.count` unlabeled images, best first."""


@runtime_checkable
class LabelUsing(Strategy, Protocol):
    """A strategy that can score hidden annotations in place of predictions.

    With `annotations: true` it gets `query.truth`. This is allowed only in pruning and simulated studies, and marks
    the run as label-using.
    """

    @property
    def annotations(self) -> AnnotationSource:
        """Whether `predicted` or `true` annotations are scored. It is a parameter."""


@runtime_checkable
class Greedy(Strategy, Protocol):
    """A strategy whose first picks depend on `query.count`.

    The best n of its longer ranking are not its ranking of n images, so pruning asks it for exactly what is kept.
    """

    @property
    def greedy(self) -> bool:
        """Whether the first picks depend on `query.count`."""


@dataclasses.dataclass(frozen=True, slots=True)
class LossPrediction:
    """Settings of the loss prediction module that is trained beside the detector (Yoo and Kweon 2019).

    Attributes:
        weight: of the ranking loss beside the detector's losses.
        margin: by which the predictions of a pair of images should differ.
        hidden: width of the module for each pyramid level.
        detach: whether the module's gradient is kept out of the detector.
        detach_from: share of the training from which on it is.
    """

    weight: float = 1.0
    margin: float = 1.0
    hidden: int = 128
    detach: bool = True
    detach_from: float = 0.0


@runtime_checkable
class LossPredicting(Strategy, Protocol):
    """A strategy that needs loss predictions and chooses the settings of their module."""

    @property
    def loss_prediction(self) -> LossPrediction:
        """Settings of the loss prediction module."""


@runtime_checkable
class InstanceStrategy(Strategy, Protocol):
    """A strategy that ranks images by scores of their instances. `select` is `ranked` of `instance_scores`."""

    def instance_scores(self, query: Query) -> InstanceScores:
        """Return the score of every instance of the unlabeled images."""

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """Rank the images, given the scores of their instances."""


def uses_labels(strategy: Strategy) -> bool:
    """Return whether the strategy declares `annotations: true` and so gets the hidden annotations."""
    return isinstance(strategy, LabelUsing) and strategy.annotations == "true"


def depends_on_count(strategy: Strategy) -> bool:
    """Return whether the strategy declares that its first picks depend on `query.count`."""
    return isinstance(strategy, Greedy) and strategy.greedy


def loss_prediction_of(strategy: Strategy) -> LossPrediction | None:
    """Return the settings of the loss prediction module that a strategy needs, or None where it needs none."""
    if Need.LOSS_PREDICTIONS not in strategy.needs:
        return None
    return strategy.loss_prediction if isinstance(strategy, LossPredicting) else LossPrediction()


def unserved(needs: frozenset[Need], gives: frozenset[Need]) -> list[Need]:
    """Return the needs that a detector or classifier does not serve; detections are predictions."""
    served = gives | {Need.PREDICTIONS} if Need.DETECTIONS in gives else gives
    return sorted(needs - served)


def parameter_names(name: str, table: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the parameters of a strategy.

    Raises:
        ConfigError: unknown name.
    """
    return frozenset(field.name for field in dataclasses.fields(_strategy_class(name, table)))


def make_strategy(name: str, parameters: Mapping[str, Any], table: Mapping[str, str]) -> Strategy:
    """Build a strategy from its name and parameters.

    Raises:
        ConfigError: unknown name, unknown parameter (with the nearest known one), wrong type.
    """
    return cast("Strategy", make_plugin("strategy", _strategy_class(name, table), name, parameters))


def _strategy_class(name: str, table: Mapping[str, str]) -> Any:
    return plugin_class("strategy", name, table, "needs", "select")


def checked_selection(strategy: Strategy, query: Query, instances: InstanceScores | None = None) -> Selection:
    """Ask a strategy and refuse an answer that breaks the contract.

    Args:
        strategy: the strategy to ask.
        query: what it gets.
        instances: the strategy's own scores of the instances, where they were computed before.

    Raises:
        StrategyError: not a Selection, a wrong count, an image outside the pool.
    """
    name = type(strategy).__name__
    if instances is not None and isinstance(strategy, InstanceStrategy):
        selection = strategy.ranked(query, instances)
    else:
        selection = strategy.select(query)
    if not isinstance(selection, Selection):
        msg = f"{name}.select: expected a Selection, found {type(selection).__name__}"
        raise StrategyError(msg)
    if len(selection.image_ids) != query.count:
        msg = f"{name}.select: expected {query.count} images (query.count), found {len(selection.image_ids)}"
        raise StrategyError(msg)
    outside = sorted(set(selection.image_ids) - set(query.unlabeled))
    if outside:
        msg = f"{name}.select: image {outside[0]} is not in query.unlabeled ({len(outside)} such images)"
        raise StrategyError(msg)
    return selection


def describe(table: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return name, needs, source and parameters of every strategy of a table, each built with its defaults.

    Raises:
        ConfigError: a strategy that cannot be built without parameters.
    """
    rows = []
    for name in table:
        strategy = make_strategy(name, {}, table)
        rows.append(
            {
                "name": name,
                "needs": sorted(str(need) for need in strategy.needs),
                "source": strategy.source,
                "parameters": _parameters(strategy),
            }
        )
    return rows


def _parameters(strategy: Any) -> dict[str, Any]:
    """Return the parameters of a strategy in the order in which its class lists them."""
    return {field.name: getattr(strategy, field.name) for field in dataclasses.fields(strategy)}
