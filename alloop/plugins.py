"""How a name in a config becomes an object: one mechanism for strategies, detectors and oracles.

A plug-in is a dataclass whose fields are its parameters. It is named by a table, or by the import path
`package.module:Name`; its parameters stand beside its name in the config.
"""

import dataclasses
import importlib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pydantic

from alloop.errors import ConfigError, nearest


def load_class(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import the class that a table or an import path `package.module:Name` names.

    Args:
        kind: the block of the config, for messages.
        name: a key of the table, or an import path.
        table: names with their import paths.

    Raises:
        ConfigError: the name is not in the table, or cannot be imported.
    """
    path = table.get(name, name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        msg = (
            f"{kind}.name: {name!r} is not in the table{nearest(name, table)}; your own is named 'package.module:Name'"
        )
        raise ConfigError(msg)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        msg = f"{kind}.name: {path!r} cannot be imported ({error}). Is the package installed and the name right?"
        raise ConfigError(msg) from error


def plugin_class(kind: str, name: str, table: Mapping[str, str], *members: str) -> Any:
    """Import a plug-in's class and check that it is a dataclass with some members.

    Raises:
        ConfigError: unknown name, or a class of another shape.
    """
    cls = load_class(kind, name, table)
    if not dataclasses.is_dataclass(cls) or not all(hasattr(cls, member) for member in members):
        expected = " and ".join(f"`{member}`" for member in members)
        msg = f"{kind}.name: {name!r} is {cls!r}, which is not a dataclass with {expected}"
        raise ConfigError(msg)
    return cls


def make_plugin(kind: str, cls: Any, name: str, parameters: Mapping[str, Any]) -> Any:
    """Build a plug-in from its parameters.

    Raises:
        ConfigError: unknown parameter (with the nearest known one), missing parameter, wrong type.
    """
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for key in parameters:
        if key not in known:
            msg = f"{kind}.{key}: {name!r} has no such parameter{nearest(key, known)}"
            raise ConfigError(msg)
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(parameters))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join([kind, *map(str, first["loc"])])
        if first["type"] in ("missing", "missing_argument"):
            msg = f"{where}: {name!r} needs this parameter, and it is missing"
            raise ConfigError(msg) from error
        msg = f"{where}: {first['msg'].removeprefix('Value error, ')}, found {first['input']!r}"
        raise ConfigError(msg) from error


def plain_parameters(plugin: Any) -> dict[str, Any]:
    """Every parameter of a plug-in, defaults included, as values that JSON and YAML can hold."""
    values: dict[str, Any] = pydantic.TypeAdapter(type(plugin)).dump_python(plugin, mode="json")
    return values


def path_parameters(cls: Any) -> frozenset[str]:
    """Names of the parameters that are paths; in a config file they are relative to that file."""
    hints = get_type_hints(cls)
    return frozenset(f.name for f in dataclasses.fields(cls) if Path in (hints[f.name], *_arguments(hints[f.name])))


def _arguments(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", ())


def without_siblings(
    kind: str, cls: Any, name: str, parameters: Mapping[str, Any], table: Mapping[str, str]
) -> dict[str, Any]:
    """Leave out parameters that only other plug-ins of the table know, and warn about each.

    A study that varies `detector.name` keeps the parameters of all its detectors in one file.
    """
    own = {field.name for field in dataclasses.fields(cls)}
    others = {
        field.name: sibling
        for sibling in table
        for field in dataclasses.fields(load_class(kind, sibling, table))
        if field.name not in own
    }
    ignored = [key for key in parameters if key not in own and key in others]
    for key in ignored:
        warnings.warn(f"{kind}.{key}: {name} does not have it ({others[key]} does); ignored", stacklevel=2)
    return {key: value for key, value in parameters.items() if key not in ignored}
