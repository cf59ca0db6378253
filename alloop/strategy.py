"""What a strategy is, and how a name in a config becomes one."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from alloop.errors import StrategyError
from alloop.plugins import load_class, make_plugin, plugin_class
from alloop.query import Need, Query
from alloop.values import InstanceScores, Selection


@dataclasses.dataclass(frozen=True, slots=True)
class LossPrediction:
    """A loss prediction module to train beside the detector: weight and margin of its ranking loss, its width."""

    weight: float = 1.0
    margin: float = 1.0
    hidden: int = 128
    detach: bool = True


def loss_prediction_of(strategy: "Strategy") -> LossPrediction | None:
    """What a strategy that needs predicted losses has trained; its own `loss_prediction` or the defaults."""
    if Need.LOSS_PREDICTIONS not in strategy.needs:
        return None
    settings = getattr(strategy, "loss_prediction", None)
    return settings if isinstance(settings, LossPrediction) else LossPrediction()


@runtime_checkable
class Strategy(Protocol):
    """A final dataclass whose fields are its parameters.

    `select` must rank exactly `query.count` distinct images of `query.unlabeled`, depend on nothing
    but the query, and keep nothing between calls. `alloop.testing` has the checks.
    """

    needs: ClassVar[frozenset[Need]]
    source: ClassVar[str]

    def select(self, query: Query) -> Selection:
        """Rank `query.count` unlabeled images, best first."""


def uses_labels(strategy: "Strategy") -> bool:
    """Whether it says `annotations: true`, and so is shown hidden labels."""
    return getattr(strategy, "annotations", "predicted") == "true"


@runtime_checkable
class InstanceStrategy(Strategy, Protocol):
    """A strategy whose images are ranked by scores of their instances."""

    def instance_scores(self, query: Query) -> InstanceScores:
        """The score of every instance of the unlabeled images."""

    def ranked(self, query: Query, instances: InstanceScores) -> Selection:
        """`select`, where the instances are scored already."""


def make_strategy(name: str, parameters: Mapping[str, Any], table: Mapping[str, str]) -> Strategy:
    """Build a strategy from its name and parameters.

    Raises:
        ConfigError: unknown name, unknown parameter (with the nearest known one), wrong type.
    """
    cls = plugin_class("strategy", name, table, "needs", "select")
    return cast("Strategy", make_plugin("strategy", cls, name, parameters))


def checked_selection(strategy: Strategy, query: Query, instances: InstanceScores | None = None) -> Selection:
    """Ask a strategy and refuse an answer that breaks the contract.

    Args:
        strategy: whom to ask.
        query: what to ask.
        instances: the strategy's own scores of the instances, where they have been made already.

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
    """Name, needs, parameters with defaults, and source of every strategy of a table."""
    rows = []
    for name in table:
        cls = load_class("strategy", name, table)
        parameters = {field.name: field.default for field in dataclasses.fields(cls)}
        needs = sorted(str(need) for need in cls.needs)
        rows.append({"name": name, "needs": needs, "source": cls.source, "parameters": parameters})
    return rows


def strategy_lines(rows: Sequence[Mapping[str, Any]], width: int = 100) -> list[str]:
    """What `describe` gives as text: a line for each strategy, and its parameters with their defaults below."""
    names, sources = (max(len(row[key]) for row in rows) + 2 for key in ("name", "source"))
    lines = [f"{'name':<{names}}{'source':<{sources}}needs of the detector and the training"]
    for row in rows:
        lines.append(f"{row['name']:<{names}}{row['source']:<{sources}}{', '.join(row['needs']) or '-'}")
        told = ", ".join(f"{key}={value}" for key, value in row["parameters"].items())
        lines += textwrap.wrap(told, width, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return lines
