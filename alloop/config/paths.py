"""Paths in a config file: relative to the file, with `${NAME}` from the environment."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from alloop.config.blocks import block_class
from alloop.config.plugin_blocks import PluginBlock
from alloop.errors import ConfigError
from alloop.plugins import holds_path

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def with_absolute_paths(
    tree: Mapping[str, Any], model: type[BaseModel], folder: Path, block: str = ""
) -> dict[str, Any]:
    """Return a block whose paths are absolute; the block is not validated yet.

    Args:
        tree: keys and values of the block; a value that is not a string is left to the validation.
        model: the model of the block; keys of type `Path` are paths, those of a plug-in's parameters included.
        folder: folder of the config file.
        block: name of the block with a dot at its end, empty for the whole config.

    Raises:
        ConfigError: a path that uses an environment variable that is not set; an unknown plug-in.
    """
    paths = {key for key, field in model.model_fields.items() if holds_path(field.annotation)}
    if issubclass(model, PluginBlock):
        paths |= model.path_keys(tree)
    resolved = dict(tree)
    for key, value in tree.items():
        inner = block_class(model.model_fields[key].annotation) if key in model.model_fields else None
        if key in paths and isinstance(value, str):
            resolved[key] = str(_absolute(value, folder, f"{block}{key}"))
        elif inner and isinstance(value, Mapping):
            resolved[key] = with_absolute_paths(value, inner, folder, f"{block}{key}.")
    return resolved


def _absolute(text: str, folder: Path, key: str) -> Path:
    if "\0" in text:
        msg = f"{key}: {text!r} holds a NUL, which no file name has; remove it"
        raise ConfigError(msg)
    for name in _VARIABLE.findall(text):
        if name not in os.environ:
            msg = f"{key}: {text!r} uses the environment variable {name}, which is not set; set it to a folder"
            raise ConfigError(msg)
    given = Path(_VARIABLE.sub(lambda match: os.environ[match[1]], text)).expanduser()
    # a variable holds what the user typed at the shell, so it is relative to the working folder
    anchor = Path.cwd() if text.startswith("${") else folder
    return (anchor / given).resolve()
