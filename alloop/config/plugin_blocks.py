"""The blocks of a config that name a plug-in: `name`, keys that every plug-in of its kind has, and its parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alloop.budget.prices import PriceList
from alloop.config.tables import DETECTORS, ORACLES
from alloop.plugins import (
    make_plugin,
    parameter_names,
    path_parameters,
    plain_parameters,
    plugin_class,
    sibling_parameters,
)


class PluginBlock(BaseModel):
    """A plug-in by its name in a table or its import path, with its parameters beside the name.

    Every parameter that is left out is filled in with its default. A parameter that only other plug-ins of the
    table have is kept and ignored: configs that serve several plug-ins carry such keys.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=())

    kind: ClassVar[str]
    table: ClassVar[Mapping[str, str]]
    members: ClassVar[tuple[str, ...]]

    name: str

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        name = given.get("name", cls.model_fields["name"].default)
        if not isinstance(name, str):
            return given
        plugin = plugin_class(cls.kind, name, cls.table, *cls.members)
        ignored = sibling_parameters(cls.kind, plugin, cls.table)
        typed = {key: value for key, value in given.items() if key in cls.model_fields}
        others = {key: value for key, value in given.items() if key not in typed}
        parameters = {key: value for key, value in others.items() if key not in ignored}
        filled_in = plain_parameters(make_plugin(cls.kind, plugin, name, parameters))
        return {**typed, **filled_in, **{key: others[key] for key in others if key in ignored}}

    @property
    def plugin_class(self) -> Any:
        """The plug-in's class."""
        return plugin_class(self.kind, self.name, self.table, *self.members)

    @property
    def parameters(self) -> dict[str, Any]:
        """The plug-in's parameters, defaults included, as plain values."""
        extra = self.model_extra or {}
        return {key: extra[key] for key in parameter_names(self.plugin_class)}

    @property
    def ignored(self) -> dict[str, str]:
        """The given keys that the plug-in does not have, each with a plug-in of the table that has it."""
        siblings = sibling_parameters(self.kind, self.plugin_class, self.table)
        return {key: siblings[key] for key, value in (self.model_extra or {}).items() if key in siblings}

    @classmethod
    def path_keys(cls, tree: Mapping[str, Any]) -> frozenset[str]:
        """Return the keys of a block, not validated yet, whose values are paths.

        Raises:
            ConfigError: an unknown plug-in.
        """
        name = tree.get("name", cls.model_fields["name"].default)
        if not isinstance(name, str):
            return frozenset()
        return path_parameters(plugin_class(cls.kind, name, cls.table, *cls.members))

    def make(self) -> Any:
        """Build the plug-in."""
        return make_plugin(self.kind, self.plugin_class, self.name, self.parameters)

    def used(self) -> dict[str, Any]:
        """Return the block as plain values, without the ignored keys."""
        ignored = self.ignored
        return {key: value for key, value in self.model_dump(mode="json").items() if key not in ignored}

    def with_siblings(self) -> dict[str, Any]:
        """Return the block as plain values with the parameters of all plug-ins of the table, ignored ones included.

        Hashes of trained models and of pruned subsets cover these values, so that they stay the same as in
        alloop 0.1.0, whose block held the parameters of all detectors at once.
        """
        extra = self.model_extra or {}
        values: dict[str, Any] = {}
        for name in self.table if self.name in self.table else ():
            sibling = plugin_class(self.kind, name, self.table)
            given = {key: extra[key] for key in parameter_names(sibling) if key in extra}
            values |= plain_parameters(make_plugin(self.kind, sibling, name, given))
        return {**values, **self.used()}


class DetectorBlock(PluginBlock):
    """The detector and its parameters."""

    kind = "detector"
    table = DETECTORS
    members = ("gives", "build", "short_side", "long_side")

    name: str = Field("fcos", description="a detector below, or your own as package.module:Class")

    @classmethod
    def path_keys(cls, tree: Mapping[str, Any]) -> frozenset[str]:
        """Return the keys whose values are paths; `weights` is one where it names a safetensors file."""
        keys = super().path_keys(tree)
        return keys | {"weights"} if str(tree.get("weights")).endswith(".safetensors") else keys


class StrategyBlock(BaseModel):
    """A query strategy by name or import path, with its parameters beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="`alloop strategies` lists them; its parameters stand beside it")

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class OracleBlock(PluginBlock):
    """The oracle that answers, its parameters, and how images are handed to people and priced."""

    kind = "oracle"
    table = ORACLES
    members = ("asks_people", "connect")

    name: str = Field(
        "simulated",
        description="simulated reveals hidden labels as they are paid for; the others ask people; "
        "or your own as package.module:Class",
    )
    first_batch: str = Field("random", description="strategy that picks the seed set without labels, or random")
    show: bool = Field(default=True, description="show people the boxes of the last detector")
    show_threshold: float = Field(0.3, ge=0, lt=1, description="least score of a box that is shown")
    blind: float = Field(0.0, ge=0, le=1, description="share of the images shown without boxes, to measure bias")
    seconds_cap: float = Field(600.0, gt=0, description="most seconds that one annotation counts")
    rates: PriceList = Field(PriceList(), description="prices")

    @property
    def asks_people(self) -> bool:
        """Whether the labels come from people and are not there yet."""
        return bool(self.plugin_class.asks_people)
