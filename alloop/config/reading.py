"""One experiment: YAML in, resolved YAML out. Unknown keys are refused with the nearest known one."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from alloop.config.blocks import Block, DataConfig, EvaluationConfig, LoopConfig, block_class
from alloop.config.overrides import parsed_override, with_value
from alloop.config.paths import with_absolute_paths
from alloop.config.plugin_blocks import DetectorBlock, OracleBlock, PluginBlock, StrategyBlock, TrackerBlock
from alloop.config.scorer import ScorerConfig
from alloop.config.training import TrainingConfig
from alloop.errors import ConfigError, nearest
from alloop.plugins import look_in


class ExperimentConfig(Block):
    """One complete experiment."""

    task: Literal["detection", "classification"] = Field(
        "detection", description="detection pays boxes and measures AP; classification pays labels, measures accuracy"
    )
    data: DataConfig
    detector: DetectorBlock
    training: TrainingConfig = Field(default_factory=TrainingConfig)
    loop: LoopConfig
    strategy: StrategyBlock
    oracle: OracleBlock = Field(default_factory=OracleBlock)
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig)
    scorer: ScorerConfig | None = Field(None, description="another detector by which images are chosen in pruning")
    trackers: tuple[TrackerBlock, ...] = Field((), description="who is shown each booked round")
    random_seed: int = Field(0, ge=0, lt=2**31, description="source of all random choices")

    @model_validator(mode="after")
    def _trains_for_some_time(self) -> "ExperimentConfig":
        training, is_external = self.training, self.detector.is_external
        if not is_external and training.epochs is None and training.iterations is None:
            msg = "training: give either epochs or iterations"
            raise ValueError(msg)
        if is_external and training.of_a_network:
            key, value = next(iter(training.of_a_network.items()))
            msg = f"training.{key}: the detector is trained by another program, which does not see {value!r}; remove it"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _fits_the_task(self) -> "ExperimentConfig":
        if self.task == "detection":
            if self.data.digits:
                msg = "data.digits: these images have one class each; set task: classification, or take digit_scenes"
                raise ValueError(msg)
            return self
        unserved = {
            "data.digit_scenes": self.data.digit_scenes is not None,
            "training.semi_supervised": self.training.semi_supervised is not None,
            "training.class_balance": self.training.class_balance is not None,
            "training.short_sides": bool(self.training.short_sides),
            "evaluation.keep_detections": self.evaluation.keep_detections,
            "scorer": self.scorer is not None,
            "oracle": self.oracle.asks_people,
            "detector.name: external": self.detector.is_external,
        }
        key = next((key for key, is_given in unserved.items() if is_given), None)
        if key is not None:
            msg = f"{key}: task classification does not serve it; leave it out"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _groups_are_known(self) -> "ExperimentConfig":
        if self.loop.per_group is not None and self.data.groups is None:
            msg = "loop.per_group: nobody knows the groups; say with data.groups how they are found"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _people_can_be_asked(self) -> "ExperimentConfig":
        if not self.oracle.asks_people:
            return self
        if self.data.is_embedded:
            msg = "oracle: people need image files; digit_scenes has none (alloop export-digits writes them)"
            raise ValueError(msg)
        if self.loop.seed_images is None and self.loop.seed_set.unit == "boxes":
            msg = "loop.seed_set: give a number of images; the number of boxes is unknown before images are annotated"
            raise ValueError(msg)
        if self.strategy.parameters.get("annotations") == "true":
            msg = "strategy.annotations: true needs labels that people have not drawn yet; use predicted"
            raise ValueError(msg)
        return self

    def to_yaml(self) -> str:
        """Return the resolved experiment: every default written out, paths absolute, no trackers."""
        tree = self.model_dump(mode="json", exclude={"trackers"})
        return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)

    def used(self) -> dict[str, Any]:
        """Return the keys that the experiment depends on, as plain values: all but ignored parameters of plug-ins."""
        tree = self.model_dump(mode="json")
        return {**tree, **{name: block.used() for name, block in self.plugin_blocks().items()}}

    def plugin_blocks(self) -> dict[str, PluginBlock]:
        """Return the blocks that name a plug-in of a table."""
        blocks = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: block for name, block in blocks.items() if isinstance(block, PluginBlock)}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """Read a YAML config.

    Relative paths are relative to the config file; `${NAME}` is replaced from the environment. Plug-ins that are named
    by an import path are also found in the folder of the config. A parameter that
    the detector or the oracle does not have and another of its table has is ignored, with a warning.

    Args:
        path: the YAML file.
        overrides: changes of single keys as `key.subkey=value`, with YAML values.

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
    # the name of the strategy comes first: another name removes the parameters that stand in the file
    for override in sorted(overrides, key=lambda text: not text.startswith("strategy.name=")):
        with _errors_from(f"--set {override!r}"):
            tree = with_value(tree, *parsed_override(override))
    look_in(path.resolve().parent)
    with _errors_from(str(path)):
        tree = with_absolute_paths(tree, ExperimentConfig, path.resolve().parent)
    config = parse_config(tree, str(path))
    for name, block in config.plugin_blocks().items():
        if block.ignored:
            keys = ", ".join(f"{key} ({owner} has it)" for key, owner in block.ignored.items())
            warnings.warn(f"{path}: {name} {block.name} ignores {keys}", stacklevel=2)
    return config


def parse_config(tree: Mapping[str, Any], where: str = "config") -> ExperimentConfig:
    """Validate a tree of plain values.

    Raises:
        ConfigError: naming the key, what was expected and what was found.
    """
    try:
        with _errors_from(where):
            return ExperimentConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item, where) for item in error.errors()[:5])) from error


def changed(config: ExperimentConfig, changes: Mapping[str, Any]) -> ExperimentConfig:
    """Return the same experiment with other values of some keys.

    Args:
        config: the experiment.
        changes: dotted keys such as `loop.rounds`, or names of whole blocks, with plain values.

    Raises:
        ConfigError: an unknown key, a wrong value.
    """
    tree = config.model_dump(mode="json")
    for key, value in changes.items():
        with _errors_from(key):
            tree = with_value(tree, key, value)
    return parse_config(tree)


def with_all_labels(config: ExperimentConfig, images: int) -> ExperimentConfig:
    """Return the same experiment, trained once on the whole pool, which has this number of images."""
    return changed(config, {"loop.seed_set": f"{images} images", "loop.rounds": 1, "loop.budget": None})


def scorer_of(config: ExperimentConfig) -> ExperimentConfig:
    """Return the experiment that trains the detector by which images are chosen in pruning."""
    scorer = config.scorer or ScorerConfig()
    blocks = {name: getattr(scorer, name) or getattr(config, name) for name in ("detector", "training")}
    return changed(config, {"scorer": None} | {name: block.model_dump(mode="json") for name, block in blocks.items()})


def refuse_people(config: ExperimentConfig, task: str) -> None:
    """Refuse a config that asks people where the labels must be there already.

    Args:
        config: the experiment.
        task: what needs the labels, for the message.

    Raises:
        ConfigError: the config asks people.
    """
    if config.oracle.asks_people:
        msg = f"oracle.name: {task} needs labels that are there already, and {config.oracle.name} asks people for them"
        raise ConfigError(f"{msg}; remove the oracle block")


def refuse_classification(config: ExperimentConfig, job: str) -> None:
    """Refuse a config of image classification for a job that is about boxes.

    Args:
        config: the experiment.
        job: what is about boxes, for the message.

    Raises:
        ConfigError: the config classifies images.
    """
    if config.task == "classification":
        msg = f"task: classification: {job} is about boxes so far; run and study serve this task"
        raise ConfigError(msg)


def refuse_waiting(config: ExperimentConfig) -> None:
    """Refuse a study whose runs would wait until somebody has run the program that trains.

    Raises:
        ConfigError: a detector outside without a command.
    """
    if config.detector.is_external and config.detector.parameters.get("command") is None:
        msg = "detector.command: the runs of a study start the program themselves, and there is no command; give one"
        raise ConfigError(msg)


@contextmanager
def _errors_from(where: str) -> Iterator[None]:
    """Put the place that a config error comes from before its message."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _sentence(item: Any, where: str) -> str:
    keys = [str(key) for key in item["loc"]]
    name = ".".join(keys)
    if item["type"] == "extra_forbidden":
        return f"{where}: {name}: unknown key{nearest(keys[-1], _known_keys(keys[:-1]))}"
    if item["type"] == "missing":
        return f"{where}: {name}: this key is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    if not isinstance(item["input"], dict):
        message += f", found {item['input']!r}"
    return ": ".join([where, *filter(None, [name]), message])  # an error between two blocks names its keys itself


def _known_keys(keys: Sequence[str]) -> list[str]:
    model: type[BaseModel] = ExperimentConfig
    for key in keys:
        model = block_class(model.model_fields[key].annotation) or model
    return list(model.model_fields)
