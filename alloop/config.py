"""One experiment as typed models: YAML in, resolved YAML out. Unknown keys are refused with the nearest known one."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from alloop.costs import Amount
from alloop.errors import ConfigError, nearest

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def _amount(value: object) -> Amount:
    try:
        return Amount.parse(value, "amount")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("amount: ")) from error


AmountField = Annotated[Amount, BeforeValidator(_amount), PlainSerializer(str)]


class Block(BaseModel):
    """A block of a config: frozen, no unknown keys, numbers must be finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )


class SplitConfig(Block):
    """One split: an annotation file or folder, and the images it names."""

    annotations: Path = Field(description="COCO JSON file; VOC folder or ImageSets list; YOLO folder or labels/split")
    images: Path | None = Field(None, description="image folder; for VOC and YOLO its own by default")
    format: Literal["coco", "voc", "yolo", "cvat", "label_studio"] = "coco"


class DataConfig(Block):
    """Either `train` with `reference` and/or `test`, or the embedded `digit_scenes`."""

    train: SplitConfig | None = Field(None, description="the pool: labels hidden, then bought")
    reference: SplitConfig | None = Field(None, description="labeled images that a strategy may look at")
    test: SplitConfig | None = Field(None, description="labeled images that AP is measured on")
    digit_scenes: dict[str, Any] | None = Field(None, description="parameters of the embedded set")

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.train is None) == (self.digit_scenes is None):
            msg = "give either train (with reference or test) or digit_scenes"
            raise ValueError(msg)
        if self.train is not None and self.reference is None and self.test is None:
            msg = "give reference, test or both: AP must be measured on something that is not the pool"
            raise ValueError(msg)
        if self.digit_scenes is not None and (self.reference or self.test):
            msg = "digit_scenes brings its own reference and test splits; remove reference and test"
            raise ValueError(msg)
        return self


class DetectorConfig(Block):
    """The detector, its backbone, its weights and the size images are brought to."""

    name: str = Field("fcos", description="fcos, retinanet, faster_rcnn, faster_rcnn_c4, mask_rcnn or module:function")
    backbone: str = Field("mobilenet_v2", description="tiny, mobilenet_v2, mobilenet_v3_*, resnet18/34/50/101")
    weights: str = Field("imagenet", description="none, imagenet, digits (tiny only) or a safetensors file")
    channels: int = Field(256, ge=32, description="width of the feature pyramid", multiple_of=32)
    tower_convs: int = Field(4, ge=1, description="convolutions in each FCOS tower")
    head_width: int = Field(1024, ge=8, description="width of the second stage")
    anchor_size: float = Field(32, gt=0, description="anchor side in pixels on the finest level")
    proposals: int = Field(1000, ge=10, description="region proposals kept an image")
    sampled_regions: int = Field(512, ge=4, description="regions sampled an image in training")
    trainable_stages: int | None = Field(None, ge=0, description="last stages that train; default all but two")
    short_side: int = Field(800, ge=16, description="images are scaled to this short side in pixels")
    long_side: int = Field(1333, ge=16, description="but no longer than this")
    score_threshold: float = Field(0.05, ge=0, lt=1, description="detections below it are dropped")
    nms_threshold: float = Field(0.5, gt=0, le=1, description="IoU of non-maximum suppression")
    max_detections: int = Field(100, ge=1, description="kept an image")


class SemiSupervisedConfig(Block):
    """A teacher, the average of the student's weights, labels the unlabeled images while the student trains."""

    style: Literal["soft_teacher", "unbiased_teacher"] = Field(
        "soft_teacher",
        description="soft_teacher weighs the background and regresses reliable boxes (two stages); unbiased_teacher "
        "classifies alone, by focal loss",
    )
    unlabeled_ratio: int = Field(4, ge=1, description="unlabeled images of a step for each labeled one")
    weight: float = Field(4.0, gt=0, description="of the unlabeled loss")
    burn_in: float = Field(0.0, ge=0, lt=1, description="share of the training before the teacher begins")
    threshold: float | None = Field(
        None, gt=0, lt=1, description="score of a pseudo-box; 0.9 for soft_teacher, 0.7 for unbiased_teacher"
    )
    strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="of what befalls the student's view: colours, blur, covered patches",
    )
    jitters: int = Field(10, ge=2, description="soft_teacher: moves by which the reliability of a box is measured")
    jitter_scale: float = Field(0.06, gt=0, description="their deviation as a share of the box")
    variance: float = Field(0.02, gt=0, description="boxes below it are regressed")
    gradient_balance: bool = Field(default=False, description="GbR: class weights that balance gradients (two stages)")
    solver: Literal["jacobi", "direct"] = Field("jacobi", description="GbR: learned positive weights, or solved")
    focal: float = Field(1.0, ge=0, description="GbR: exponent of the focal loss")
    beta_labeled: float = Field(0.5, ge=0, description="GbR: exponent of the weights of labeled regions")
    beta_unlabeled: float = Field(1.0, ge=0, description="GbR: of unlabeled ones")
    class_thresholds: bool = Field(default=False, description="GbT: a threshold for each class")
    resampling: bool = Field(default=False, description="CrS: repeat images whose pseudo-boxes are rare")
    resampling_constant: float = Field(0.5, gt=0, description="CrS: gamma, 0.5 for COCO, 0.05 for rarer classes")
    warm_up: float = Field(0.05, ge=0, lt=1, description="share of the training before GbR acts; GbT waits half more")
    refresh: float = Field(0.1, gt=0, le=1, description="CrS: share of the training between two countings")
    momentum: float = Field(0.999, ge=0, lt=1, description="of the running figures of GbR and GbT")


class TrainingConfig(Block):
    """One round's training."""

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd or adamw")
    lr: float = Field(0.01, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    weight_decay: float = Field(1e-4, ge=0)
    batch_size: int = Field(8, ge=1, description="images a step, in training and in scoring")
    epochs: float | None = Field(None, gt=0, description="passes over the labeled images")
    iterations: int | None = Field(None, ge=1, description="steps; give this or epochs")
    warmup_iterations: int = Field(0, ge=0, description="steps of linear warm-up")
    warmup_ratio: float = Field(1 / 3, gt=0, le=1, description="share of lr that warm-up starts at")
    schedule: Literal["constant", "step", "cosine"] = Field("step", description="constant, step or cosine")
    milestones: tuple[float, ...] = Field((2 / 3, 11 / 12), description="shares of the training at which lr drops")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each drop")
    clip_norm: float | None = Field(10.0, gt=0, description="gradient norm limit; null for none")
    flip: float = Field(0.5, ge=0, le=1, description="chance of a horizontal flip")
    short_sides: tuple[int, ...] = Field((), description="multi-scale training: short sides to draw from")
    repeat_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="repeat images of classes that fewer than this share of the images hold (RFS), in as many steps",
    )
    ema: float = Field(0.0, ge=0, lt=1, description="weight averaging; 0 evaluates the last weights")
    semi_supervised: SemiSupervisedConfig | None = Field(None, description="also learn from the unlabeled pool, below")
    amp: bool = Field(default=True, description="bfloat16 autocast on CUDA")
    channels_last: bool = Field(default=True, description="memory format on CUDA")
    snapshots: int | None = Field(
        None, ge=0, description="states kept along the training; by default one an epoch if the strategy asks"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes CUDA where there is one")
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes all cores")
    checkpoint_seconds: float = Field(60.0, ge=0, description="time between checkpoints inside a training")
    cache_gib: float = Field(8.0, gt=0, description="scratch space for decoded images")

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if (self.epochs is None) == (self.iterations is None):
            msg = "give either epochs or iterations"
            raise ValueError(msg)
        if list(self.milestones) != sorted(self.milestones) or any(not 0 < m < 1 for m in self.milestones):
            msg = f"milestones: expected rising shares between 0 and 1, found {list(self.milestones)}"
            raise ValueError(msg)
        if self.semi_supervised is not None and not self.ema:
            msg = "semi_supervised: the teacher is the average of the weights; set training.ema, for example to 0.999"
            raise ValueError(msg)
        return self


class LoopConfig(Block):
    """How much is bought when. Amounts are `80`, `"80 images"` or `"500 boxes"`."""

    seed_set: AmountField = Field(description="random images labeled before round 0")
    seed_images: Path | None = Field(None, description="file of image ids, one a line, to take it from; else random")
    query_size: AmountField = Field(description="bought after each round but the last")
    rounds: int = Field(ge=1, le=100_000, description="rounds trained and evaluated: 0 .. rounds-1")
    budget: AmountField | None = Field(None, description="never passed, seed set included")

    @model_validator(mode="after")
    def _possible(self) -> "LoopConfig":
        budget = self.budget
        if budget and budget.unit == self.seed_set.unit and self.seed_set.number > budget.number:
            msg = f"budget: {budget} does not even pay for the seed set of {self.seed_set}"
            raise ValueError(msg)
        return self


class StrategyConfig(BaseModel):
    """A query strategy by name or import path, with its parameters beside the name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(description="`alloop strategies` lists them; its parameters stand beside it")

    @property
    def parameters(self) -> dict[str, Any]:
        """Everything but the name."""
        return dict(self.model_extra or {})


class RatesConfig(Block):
    """What people's work costs, in whatever money. Prices of edits apply where boxes were shown."""

    image: float = Field(0.0, ge=0, description="an image, also an empty one")
    box: float = Field(1.0, ge=0, description="a box that came back")
    second: float = Field(0.0, ge=0, description="a second of reported work")
    accepted: float | None = Field(None, ge=0, description="a box shown and kept; `box` by default")
    moved: float | None = Field(None, ge=0, description="a box shown and corrected; `box` by default")
    added: float | None = Field(None, ge=0, description="a box drawn where none was shown; `box` by default")
    deleted: float = Field(0.0, ge=0, description="a box shown and removed")


class OracleConfig(Block):
    """Who answers: hidden labels (simulated), or people behind a folder or a Label Studio server."""

    name: Literal["simulated", "folder", "label_studio"] = Field(
        "simulated", description="simulated reveals labels as they are paid for; the others ask people"
    )
    folder: Path | None = Field(None, description="folder: tasks are written into it, answers read from it")
    format: Literal["coco", "voc", "yolo", "cvat", "label_studio"] = Field("coco", description="of the folder")
    url: str | None = Field(None, description="label_studio: address of the server")
    project: str | None = Field(None, description="label_studio: title of the project, at most 50 characters")
    token: str = Field("LABEL_STUDIO_TOKEN", description="label_studio: environment variable that holds the token")
    images_url: str = Field(
        "upload", description="label_studio: `upload`, or what stands before a file name, /data/local-files/?d=..."
    )
    first_batch: str = Field("random", description="strategy that picks the seed set without labels, or random")
    show: bool = Field(default=True, description="show people the boxes of the last detector")
    show_threshold: float = Field(0.3, ge=0, lt=1, description="those with at least this score")
    blind: float = Field(0.0, ge=0, le=1, description="share of the images shown without boxes, to measure bias")
    policy: Literal["newest", "hold"] = Field("newest", description="what to do where several people disagree")
    seconds_cap: float = Field(600.0, gt=0, description="most seconds that one annotation counts")
    default_seconds: float = Field(0.0, ge=0, description="seconds of an annotation that reports none")
    rates: RatesConfig = Field(RatesConfig(), description="prices, see below")

    @model_validator(mode="after")
    def _complete(self) -> "OracleConfig":
        needed = {"folder": ("folder",), "label_studio": ("url", "project")}.get(self.name, ())
        missing = [key for key in needed if getattr(self, key) is None]
        if missing:
            msg = f"{missing[0]}: oracle {self.name} needs this key"
            raise ValueError(msg)
        if self.project is not None and len(self.project) > 50:
            msg = f"project: Label Studio takes titles of 50 characters at most, found {len(self.project)}"
            raise ValueError(msg)
        return self


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
