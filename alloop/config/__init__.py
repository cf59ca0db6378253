"""One experiment as typed values: the blocks of a config, how it is read, and its reference page.

The names below are imported when they are first used: the tables of this package serve commands that read no config.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alloop.config.reading import ExperimentConfig, load_config, parse_config

__all__ = ["ExperimentConfig", "load_config", "parse_config"]


def __getattr__(name: str) -> Any:
    """Import a public name on its first use."""
    if name not in __all__:
        msg = f"module 'alloop.config' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module("alloop.config.reading"), name)
