"""The blocks of a config that name a plug-in: `name`, keys that every plug-in of its kind has, and its parameters."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alloop.budget.prices import PriceList
from alloop.config.tables import DETECTORS, NETWORKS, ORACLES, TRACKERS
from alloop.errors import ConfigError
from alloop.plugins import (
    make_plugin,
    parameter_names,
    path_parameters,
    plain_parameters,
    plugin_class,
    sibling_parameters,
)

# a hash that only checks a file, and the time after which a program is stopped
DETECTOR_CHANGES_NO_RESULT = frozenset({"weights_sha256", "time_limit_hours"})
DETECTOR_WITHOUT_EFFECT = {"box_start": 0.0}
"""Parameters that were added later, with the value under which a detector is as it was without them."""
WEIGHT_FILES = (".safetensors", ".pth", ".pt")  # endings by which `detector.weights` is known to be a file


class PluginBlock(BaseModel):
    """A plug-in by its name in a table or its import path, with its parameters beside the name.

    Every parameter that is left out is filled in with its default. A parameter that only other plug-ins of the
    table have is kept and ignored: configs that serve several plug-ins carry such keys.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=())

    kind: ClassVar[str]
    table: ClassVar[Mapping[str, str]]
    members: ClassVar[tuple[str, ...]] = ()

    name: str

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        """Write out every parameter of the plug-in; a name that is no text is left to the validation."""
        if not isinstance(given, Mapping) or not isinstance(name := given.get("name", cls._default_name()), str):
            return given
        plugin = plugin_class(cls.kind, name, cls.table, *cls.members)
        cls._refuse_reserved(name, plugin)
        ignored = cls.siblings(plugin).keys()
        parameters = {key: value for key, value in given.items() if key not in cls.model_fields and key not in ignored}
        return {**given, **plain_parameters(make_plugin(cls.kind, plugin, name, parameters, cls.model_fields))}

    @classmethod
    def _default_name(cls) -> Any:
        return cls.model_fields["name"].default

    @classmethod
    def _refuse_reserved(cls, name: str, plugin: Any) -> None:
        reserved = [key for key in parameter_names(plugin) if key in cls.model_fields]
        if reserved:
            msg = f"{cls.kind}.name: {name!r} has a parameter `{reserved[0]}`, which every {cls.kind} block has already"
            raise ConfigError(f"{msg}; give the field of {plugin.__name__} another name")

    @classmethod
    def siblings(cls, plugin: Any) -> Mapping[str, str]:
        """Return the parameters that only other plug-ins of the table have, each with one that has it."""
        return sibling_parameters(cls.kind, plugin, cls.table)

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
        siblings = self.siblings(self.plugin_class)
        return {key: siblings[key] for key in self.model_extra or {} if key in siblings}

    @classmethod
    def path_keys(cls, tree: Mapping[str, Any]) -> frozenset[str]:
        """Return the keys of a block, not validated yet, whose values are paths.

        Raises:
            ConfigError: an unknown plug-in.
        """
        name = tree.get("name", cls._default_name())
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


class DetectorBlock(PluginBlock):
    """The detector and its parameters."""

    kind = "detector"
    table = DETECTORS
    members = ("gives", "build", "short_side", "long_side")

    name: str = Field("fcos", description="a detector below, or your own as package.module:Class")

    @classmethod
    def path_keys(cls, tree: Mapping[str, Any]) -> frozenset[str]:
        """Return the keys whose values are paths; `weights` is one where it names a file."""
        keys = super().path_keys(tree)
        return keys | {"weights"} if str(tree.get("weights")).lower().endswith(WEIGHT_FILES) else keys

    @property
    def is_external(self) -> bool:
        """Whether another program trains the detector."""
        return bool(getattr(self.plugin_class, "is_external", False))

    def with_siblings(self) -> dict[str, Any]:
        """Return the block as plain values with the parameters of all built-in networks, ignored ones included.

        Hashes of trained models and of pruned subsets cover these values, so that they stay the same as in
        alloop 0.1.0, whose block held the parameters of all detectors at once. A detector from elsewhere has its own
        parameters alone. What changes no result is left out.
        """
        values: dict[str, Any] = {}
        for name in NETWORKS if self.name in NETWORKS else ():
            values |= self._parameters_of(name)
        values |= self.used()
        later = {key for key, value in DETECTOR_WITHOUT_EFFECT.items() if values.get(key) == value}
        return {key: value for key, value in values.items() if key not in DETECTOR_CHANGES_NO_RESULT | later}

    def _parameters_of(self, name: str) -> dict[str, Any]:
        """Return the parameters of a built-in detector, its defaults or the given values."""
        sibling = plugin_class(self.kind, name, self.table)
        extra = self.model_extra or {}
        given = {key: extra[key] for key in parameter_names(sibling) if key in extra}
        try:
            return plain_parameters(make_plugin(self.kind, sibling, name, given))
        except ConfigError:  # an ignored key may have any value
            return {**plain_parameters(sibling()), **given}


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
    first_batch: str = Field("random", description="older name of loop.first_batch")
    show: bool = Field(default=True, description="show people the boxes of the last detector")
    show_threshold: float = Field(0.3, ge=0, lt=1, description="least score of a box that is shown")
    blind: float = Field(0.0, ge=0, le=1, description="share of the images shown without boxes, to measure bias")
    seconds_cap: float = Field(600.0, gt=0, description="most seconds that one annotation counts")
    rates: PriceList = Field(PriceList(), description="prices")

    @property
    def asks_people(self) -> bool:
        """Whether the labels come from people and are not there yet."""
        return bool(self.plugin_class.asks_people)


class TrackerBlock(PluginBlock):
    """A list of those who are shown each booked round, over the boxes paid; each is a name, or a block with these keys.

    Trackers are no part of the experiment: they may differ from those that a run began with.
    """

    kind = "trackers"
    table = TRACKERS
    members = ("open",)

    name: str = Field(description="a tracker below, or your own as package.module:Class")

    @classmethod
    def siblings(cls, plugin: Any) -> Mapping[str, str]:  # noqa: ARG003
        """Return nothing: each tracker of the list has its own parameters, so none is carried for another."""
        return {}

    @model_validator(mode="before")
    @classmethod
    def _of_name(cls, given: Any) -> Any:
        """Take a name alone for a block; it runs before the parameters are filled in."""
        return {"name": given} if isinstance(given, str) else given
