"""The blocks of a config as typed models: what each key means, its default, and what is refused."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from alloop.budget.amounts import Amount
from alloop.budget.prices import PriceList
from alloop.errors import ConfigError


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
    rates: PriceList = Field(PriceList(), description="prices, see below")

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
