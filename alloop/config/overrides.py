"""Changes of single keys of a config: `--set key=value`, `--vary key=value,value`."""

from collections.abc import Mapping
from typing import Any

import yaml

from alloop.errors import ConfigError


def parsed_override(override: str) -> tuple[str, Any]:
    """Return the key and the YAML value of `key=value`.

    Raises:
        ConfigError: the text has another form.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        msg = f"--set {override!r}: expected key=value, for example --set loop.rounds=3"
        raise ConfigError(msg)
    try:
        return key, yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"--set {override!r}: the value is not YAML ({error})"
        raise ConfigError(msg) from error


def parsed_values(text: str) -> tuple[str, list[Any]]:
    """Return the key and the YAML values of `key=value,value,...`.

    Raises:
        ConfigError: the text has another form.
    """
    key, _, values = text.partition("=")
    try:
        listed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        listed = None
    if not key or not listed or None in listed:
        msg = f"--vary {text!r}: expected key=value,value, for example --vary training.lr=0.001,0.002"
        raise ConfigError(msg)
    return key, listed


def with_value(tree: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a tree in which one dotted key has another value; blocks that are missing are added.

    Another `strategy.name` removes the parameters of the strategy that was named before.

    Raises:
        ConfigError: a part of the key names a value and not a block.
    """
    first, dot, rest = key.partition(".")
    if not dot:
        return {**tree, first: value}
    inner = tree.get(first, {})
    if not isinstance(inner, Mapping):
        msg = f"{first} is not a block of the config"
        raise ConfigError(msg)
    if key == "strategy.name" and inner.get(rest) != value:
        inner = {}
    return {**tree, first: with_value(inner, rest, value)}
