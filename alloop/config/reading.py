"""One experiment: YAML in, resolved YAML out. Unknown keys are refused with the nearest known one."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from alloop.config.blocks import (
    Block,
    DataConfig,
    DetectorConfig,
    LoopConfig,
    OracleConfig,
    StrategyConfig,
    TrainingConfig,
)
from alloop.errors import ConfigError, nearest

_VARIABLE = re.compile(r"\$\{(\w+)\}")


class ExperimentConfig(Block):
    """One complete experiment."""

    data: DataConfig
    detector: DetectorConfig
    training: TrainingConfig
    loop: LoopConfig
    strategy: StrategyConfig
    oracle: OracleConfig = OracleConfig()
    random_seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _people_can_be_asked(self) -> "ExperimentConfig":
        if self.oracle.name == "simulated":
            return self
        if self.data.digit_scenes is not None:
            msg = "oracle: people need image files; digit_scenes has none (alloop export-digits writes them)"
            raise ValueError(msg)
        if self.loop.seed_images is None and self.loop.seed_set.unit == "boxes":
            msg = "loop.seed_set: give a number of images; nobody knows yet how many boxes an image has"
            raise ValueError(msg)
        if self.strategy.parameters.get("annotations") == "true":
            msg = "strategy.annotations: true needs labels that people have not drawn yet; use predicted"
            raise ValueError(msg)
        return self

    def to_yaml(self) -> str:
        """The resolved config: every default written out, paths absolute."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read a YAML config; `overrides` are `key.subkey=value` with YAML values.

    Relative paths are relative to the config file; `${NAME}` is replaced from the environment.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, impossible combination.
    """
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: expected a YAML config, but it cannot be read ({error})"
        raise ConfigError(msg) from error
    if not isinstance(tree, dict):
        msg = f"{path}: expected the blocks data, detector, training, loop, strategy, found {type(tree).__name__}"
        raise ConfigError(msg)
    for override in sorted(overrides, key=lambda text: not text.startswith("strategy.name=")):
        _apply(tree, override)
    return parse_config(_resolve(tree, path.resolve().parent, str(path)), str(path))


def parse_config(tree: Mapping[str, Any], where: str = "config") -> ExperimentConfig:
    """Validate a tree of plain values.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    try:
        return ExperimentConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item, where) for item in error.errors()[:5])) from error


def varied(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """The same experiment with other values of some keys, named as in `loop.rounds`.

    Raises:
        ConfigError: an unknown key, a wrong value.
    """
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        _assign(tree, key, value, f"--vary {key}")
    return parse_config(tree)


def refuse_people(config: ExperimentConfig, what: str) -> None:
    """Studies and pruning need labels that are there.

    Raises:
        ConfigError: the config asks people.
    """
    if config.oracle.name != "simulated":
        msg = f"oracle.name: {what} needs labels that are there already, and {config.oracle.name} asks people for them"
        raise ConfigError(f"{msg}; remove the oracle block")


def with_all_labels(config: ExperimentConfig, images: int) -> ExperimentConfig:
    """The same experiment trained once on the whole pool of so many images."""
    tree = config.model_dump(mode="json")
    return parse_config({**tree, "loop": {**tree["loop"], "seed_set": f"{images} images", "rounds": 1, "budget": None}})


def _sentence(item: Any, where: str) -> str:
    keys = [str(key) for key in item["loc"]]
    name = ".".join(keys)
    if item["type"] == "extra_forbidden":
        return f"{where}: {name}: unknown key{nearest(keys[-1], _known_keys(keys[:-1]))}"
    if item["type"] == "missing":
        return f"{where}: {name}: this key is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    found = "" if isinstance(item["input"], dict) else f", found {item['input']!r}"
    return f"{where}: {name}: {message}{found}"


def _known_keys(keys: Sequence[str]) -> list[str]:
    model: type[BaseModel] = ExperimentConfig
    for key in keys:
        annotation = model.model_fields[key].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), model)
    return list(model.model_fields)


def parsed_override(override: str) -> tuple[str, Any]:
    """`key=value` as a key and a YAML value.

    Raises:
        ConfigError: anything else.
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
    """`key=value,value,...` as a key and YAML values.

    Raises:
        ConfigError: anything else.
    """
    key, values = text.partition("=")[::2]
    try:
        listed = yaml.safe_load(f"[{values}]")
    except yaml.YAMLError:
        listed = None
    if not key or not listed or None in listed:
        msg = f"--vary {text!r}: expected key=value,value, for example --vary training.lr=0.001,0.002"
        raise ConfigError(msg)
    return key, listed


def _apply(tree: dict[str, Any], override: str) -> None:
    _assign(tree, *parsed_override(override), f"--set {override!r}")


def _assign(tree: dict[str, Any], key: str, value: Any, where: str) -> None:
    *parents, last = key.split(".")
    node = tree
    for parent in parents:
        node = node.setdefault(parent, {})
        if not isinstance(node, dict):
            msg = f"{where}: {parent} is not a block of the config"
            raise ConfigError(msg)
    if key == "strategy.name" and node.get(last) != value:
        node.clear()  # the parameters belonged to another strategy
    node[last] = value


def _resolve(tree: dict[str, Any], base: Path, where: str) -> dict[str, Any]:
    """Replace `${NAME}` and make the paths of the data and the weights absolute."""
    data = tree.get("data")
    for name, split in data.items() if isinstance(data, dict) else ():
        if isinstance(split, dict):
            for key in ("annotations", "images"):
                if isinstance(split.get(key), str):
                    split[key] = str(_absolute(split[key], base, f"{where}: data.{name}.{key}"))
    loop = tree.get("loop")
    if isinstance(loop, dict) and isinstance(loop.get("seed_images"), str):
        loop["seed_images"] = str(_absolute(loop["seed_images"], base, f"{where}: loop.seed_images"))
    oracle = tree.get("oracle")
    if isinstance(oracle, dict) and isinstance(oracle.get("folder"), str):
        oracle["folder"] = str(_absolute(oracle["folder"], base, f"{where}: oracle.folder"))
    detector = tree.get("detector")
    if isinstance(detector, dict):
        weights = detector.get("weights")
        if isinstance(weights, str) and weights.endswith(".safetensors"):
            detector["weights"] = str(_absolute(weights, base, f"{where}: detector.weights"))
    return tree


def _absolute(text: str, base: Path, where: str) -> Path:
    for name in _VARIABLE.findall(text):
        if name not in os.environ:
            msg = f"{where}: {text!r} uses the environment variable {name}, which is not set; set it to a folder"
            raise ConfigError(msg)
    given = Path(_VARIABLE.sub(lambda match: os.environ[match[1]], text)).expanduser()
    # a variable holds what the user typed at the shell, so it is relative to where they stand
    anchor = Path.cwd() if text.startswith("${") else base
    return (anchor / given).resolve()
