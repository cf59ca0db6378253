"""How a name in a config becomes an object: one mechanism for strategies, detectors and oracles.

A plug-in is a dataclass whose fields are its parameters. It is named by a table, or by the import path
`package.module:Name`; its parameters stand beside its name in the config.
"""

import dataclasses
import importlib
import sys
from collections.abc import Collection, Mapping
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pydantic

from alloop.errors import ConfigError, nearest


class _FolderFinder:
    """Finds modules in the folders of configs, when every other finder of Python has failed.

    A folder on `sys.path` would hide packages that are installed in editable form, whose finder comes after the path.
    """

    def __init__(self) -> None:
        self.folders: list[str] = []

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return where a module is; submodules are found by their package."""
        return PathFinder.find_spec(name, self.folders) if path is None else None


_FINDER = _FolderFinder()


def look_in(folder: Path) -> None:
    """Let import paths be found in a folder as well, after everything that is installed, in this process."""
    sys.meta_path[:] = [*(finder for finder in sys.meta_path if finder is not _FINDER), _FINDER]
    if str(folder) not in _FINDER.folders:
        _FINDER.folders.append(str(folder))


def looked_in() -> list[Path]:
    """Return the folders of `look_in`, in which a process that is started must look as well."""
    return [Path(folder) for folder in _FINDER.folders]


def load_class(kind: str, name: str, table: Mapping[str, str]) -> Any:
    """Import the class that a block of the config names; see `load`."""
    return load(f"{kind}.name", name, table)


def load(key: str, name: str, table: Mapping[str, str]) -> Any:
    """Import what a table or an import path `package.module:Name` names.

    Args:
        key: the key of the config, or the option, that holds the name, for messages.
        name: a name of the table, or an import path.
        table: names with their import paths.

    Raises:
        ConfigError: the name is not in the table, or cannot be imported.
    """
    path = table.get(name, name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        msg = f"{key}: {name!r} is not in the table{nearest(name, table)}; your own is named 'package.module:Name'"
        raise ConfigError(msg)
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        msg = (
            f"{key}: {path!r} cannot be imported ({error}). Is the name right, and is the package "
            "installed, or in the folder of the config?"
        )
        raise ConfigError(msg) from error


def plugin_class(kind: str, name: str, table: Mapping[str, str], *members: str) -> Any:
    """Import a plug-in's class and check that it is a dataclass with the given members.

    A member is a field, a class attribute, a property or a method.

    Raises:
        ConfigError: unknown name, or a class of another shape.
    """
    cls = load_class(kind, name, table)
    if not isinstance(cls, type) or not dataclasses.is_dataclass(cls):
        msg = f"{kind}.name: expected {name!r} to be a dataclass, whose fields are its parameters, found {cls!r}"
        raise ConfigError(msg)
    present = {*dir(cls), *(field.name for field in dataclasses.fields(cls))}
    missing = [member for member in members if member not in present]
    if missing:
        msg = f"{kind}.name: {name!r} is no {kind}: its class {cls.__name__} has no `{missing[0]}`"
        raise ConfigError(msg)
    return cls


def parameter_names(cls: Any) -> list[str]:
    """Return the names of a plug-in's parameters, in the order of its fields."""
    return [field.name for field in dataclasses.fields(cls) if field.init]


def make_plugin(kind: str, cls: Any, name: str, parameters: Mapping[str, Any], block_keys: Collection[str] = ()) -> Any:
    """Build a plug-in from its parameters.

    Args:
        kind: the block of the config, for messages.
        cls: the plug-in's class.
        name: what the config calls it, for messages.
        parameters: names and values; those left out take their defaults.
        block_keys: other keys that the block has, one of which a misspelled key may mean.

    Raises:
        ConfigError: unknown parameter (with the nearest known one), missing parameter, wrong type.
    """
    known = parameter_names(cls)
    for key in parameters:
        if key not in known:
            msg = f"{kind}.{key}: {name!r} has no such parameter{nearest(key, [*known, *block_keys])}"
            raise ConfigError(msg)
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(parameters))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join([kind, *map(str, first["loc"])])
        if first["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
            msg = f"{where}: {name!r} needs this parameter, and it is missing"
            raise ConfigError(msg) from error
        msg = f"{where}: {first['msg'].removeprefix('Value error, ')}, found {first['input']!r}"
        raise ConfigError(msg) from error


def plain_parameters(plugin: Any) -> dict[str, Any]:
    """Return every parameter of a plug-in, defaults included, as values that JSON and YAML can hold."""
    values: dict[str, Any] = pydantic.TypeAdapter(type(plugin)).dump_python(plugin, mode="json")
    return values


def path_parameters(cls: Any) -> frozenset[str]:
    """Return the names of the parameters that are paths; in a config file they are relative to that file."""
    hints = get_type_hints(cls)
    return frozenset(name for name in parameter_names(cls) if holds_path(hints[name]))


def holds_path(annotation: Any) -> bool:
    """Whether a type is `Path`, or a union or an `Annotated` of it."""
    return annotation is Path or any(holds_path(argument) for argument in get_args(annotation))


def sibling_parameters(kind: str, cls: Any, table: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that a plug-in does not have and others of its table do, with the first such other.

    A study that varies `detector.name` keeps the parameters of all its detectors in one file.
    """
    own = parameter_names(cls)
    siblings: dict[str, str] = {}
    for name in table:
        for key in parameter_names(load_class(kind, name, table)):
            if key not in own:
                siblings.setdefault(key, name)
    return siblings
