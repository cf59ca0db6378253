"""One experiment as typed values: the blocks, how they are read, and their reference page."""

from alloop.config.reading import ExperimentConfig, load_config, parse_config

__all__ = ["ExperimentConfig", "load_config", "parse_config"]
