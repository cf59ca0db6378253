"""The blocks of a config as typed models: the meaning of each key, its default, and which values are refused."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from alloop.budget.amounts import Amount
from alloop.config.class_balance import ClassBalanceBlock
from alloop.config.distance import Distance
from alloop.errors import ConfigError


def _amount(value: object) -> Amount:
    try:
        return Amount.parse(value, "amount")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("amount: ")) from error


def _distance(value: object) -> Distance:
    try:
        return Distance.parse(value, "distance")
    except ConfigError as error:
        raise ValueError(str(error).removeprefix("distance: ")) from error


DistanceField = Annotated[Distance, BeforeValidator(_distance), PlainSerializer(str)]
AmountField = Annotated[Amount, BeforeValidator(_amount), PlainSerializer(str)]


class Block(BaseModel):
    """A block of a config: frozen, no unknown keys, numbers must be finite."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, arbitrary_types_allowed=True, protected_namespaces=()
    )


def block_class(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a block from the annotation of its key, None where the key is no block."""
    options = [annotation, *get_args(annotation)]
    return next((option for option in options if isinstance(option, type) and issubclass(option, BaseModel)), None)


class SplitConfig(Block):
    """One split: an annotation file or folder, and the folder of its images."""

    annotations: Path = Field(description="COCO JSON file; VOC folder or ImageSets list; YOLO folder or labels/split")
    images: Path | None = Field(None, description="image folder; null for the one that belongs to the annotations")
    format: str = Field(
        "coco",
        description="a format that `alloop check-data --help` lists, or your own as package.module:FORMAT",
    )
    unlabeled: Literal["left_out", "empty"] = Field(
        "left_out",
        description="images that nobody has annotated: left_out, or empty for images without an object. A pool for "
        "people keeps them",
    )


class GroupsConfig(Block):
    """How the group of an image is found: images of one video, recording or patient belong to one group."""

    field: str | None = Field(None, min_length=1, description="field of an image in COCO, of a task in Label Studio")
    pattern: str | None = Field(
        None, min_length=1, description="regular expression in the file name; its first group, else the whole match"
    )
    folder: bool = Field(default=False, description="true for the folder that the image lies in")
    csv: Path | None = Field(None, description="CSV file with the columns file_name and group")

    @model_validator(mode="after")
    def _one_rule(self) -> "GroupsConfig":
        given = [self.field is not None, self.pattern is not None, self.folder, self.csv is not None]
        if sum(given) != 1:
            msg = "give one of field, pattern, folder and csv"
            raise ValueError(msg)
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            msg = f"pattern: {self.pattern!r} is no regular expression ({error})"
            raise ValueError(msg) from error
        return self


class DataConfig(Block):
    """The data: either `train` with `reference`, `test` or both, or the embedded `digit_scenes`."""

    train: SplitConfig | None = Field(None, description="the pool: labels hidden, then bought")
    reference: SplitConfig | None = Field(None, description="labeled images that a strategy may look at")
    test: SplitConfig | None = Field(None, description="labeled images that AP is measured on")
    classes: tuple[str, ...] | Path | None = Field(
        None,
        description="class names in label order, or a file with one a line; null for those of the annotations",
    )
    groups: GroupsConfig | None = Field(
        None, description="images that belong together; no group may be in two splits; null for no groups"
    )
    digit_scenes: dict[str, Any] | None = Field(
        None, description="parameters of the embedded scenes of handwritten digits"
    )

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        if (self.train is None) == (self.digit_scenes is None):
            msg = "give either train (with reference or test) or digit_scenes"
            raise ValueError(msg)
        if self.train is not None and self.reference is None and self.test is None:
            msg = "give reference, test or both: AP must be measured on something that is not the pool"
            raise ValueError(msg)
        if self.digit_scenes is not None and (self.reference or self.test or self.classes):
            msg = "digit_scenes brings its own reference and test splits, and its classes; remove these keys"
            raise ValueError(msg)
        return self


class SemiSupervisedConfig(Block):
    """Semi-supervised training: a teacher, the average of the student's weights, labels the unlabeled images."""

    style: Literal["soft_teacher", "unbiased_teacher"] = Field(
        "soft_teacher",
        description="soft_teacher weighs the background and regresses reliable boxes, which takes two stages; "
        "unbiased_teacher trains the classification alone, by focal loss",
    )
    unlabeled_ratio: int = Field(4, ge=1, description="unlabeled images per labeled image of a step")
    weight: float = Field(4.0, gt=0, description="weight of the unlabeled loss")
    burn_in: float = Field(0.0, ge=0, lt=1, description="share of the training without unlabeled images")
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="least score of a pseudo-box; null for 0.9 (soft_teacher) or 0.7 (unbiased_teacher)",
    )
    strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="strength of the augmentations of the student's view: colours, blur, covered patches",
    )
    jitters: int = Field(10, ge=2, description="soft_teacher: random shifts by which the variance of a box is measured")
    jitter_scale: float = Field(0.06, gt=0, description="standard deviation of the shifts as a share of the box")
    variance: float = Field(0.02, gt=0, description="soft_teacher: boxes of a smaller variance are regressed")
    gradient_balance: bool = Field(
        default=False, description="GbR: class weights that balance gradients, which takes two stages"
    )
    solver: Literal["jacobi", "direct"] = Field(
        "jacobi", description="GbR: jacobi learns positive weights, direct solves for them"
    )
    focal: float = Field(1.0, ge=0, description="GbR: exponent of the focal loss")
    beta_labeled: float = Field(0.5, ge=0, description="GbR: exponent of the weights of labeled regions")
    beta_unlabeled: float = Field(1.0, ge=0, description="GbR: exponent of the weights of unlabeled regions")
    class_thresholds: bool = Field(default=False, description="GbT: a score threshold per class")
    resampling: bool = Field(default=False, description="CrS: repeat images with pseudo-boxes of rare classes")
    resampling_constant: float = Field(0.5, gt=0, description="CrS: gamma, 0.5 for COCO, 0.05 for rarer classes")
    warm_up: float = Field(
        0.05, ge=0, lt=1, description="share of the training before GbR starts; GbT starts after 1.5 times this share"
    )
    refresh: float = Field(0.1, gt=0, le=1, description="CrS: share of the training between two counts of the classes")
    momentum: float = Field(0.999, ge=0, lt=1, description="momentum of the running means of GbR and GbT")


CHANGES_NO_RESULT = frozenset({"checkpoint_seconds", "cache_gib", "decoding_threads"})  # keys of `training`


class TrainingConfig(Block):
    """The training of a round."""

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimizer: sgd or adamw")
    lr: float = Field(0.01, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    batch_size: int = Field(8, ge=1, description="images per step, in training and in scoring")
    epochs: float | None = Field(None, gt=0, description="passes over the labeled images; give this or iterations")
    iterations: int | None = Field(None, ge=1, description="steps; give this or epochs")
    warmup_iterations: int = Field(0, ge=0, description="steps of linear warm-up")
    warmup_ratio: float = Field(1 / 3, gt=0, le=1, description="share of lr at the start of the warm-up")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "step", description="learning rate after the warm-up: constant, step or cosine"
    )
    milestones: tuple[float, ...] = Field((2 / 3, 11 / 12), description="shares of the training at which lr drops")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each drop")
    clip_norm: float | None = Field(10.0, gt=0, description="gradient norm limit; null for none")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    short_sides: tuple[int, ...] = Field((), description="multi-scale training: short sides to draw from")
    repeat_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="RFS: repeat images of classes that occur in a smaller share of the images; the steps stay as many",
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of the weight average that is evaluated; 0 evaluates the last weights"
    )
    semi_supervised: SemiSupervisedConfig | None = Field(
        None, description="also train on the unlabeled images of the pool"
    )
    class_balance: ClassBalanceBlock | None = Field(
        None, description="balance the classes of a two-stage detector by one of three methods; null for none"
    )
    amp: bool = Field(default=True, description="bfloat16 autocast on CUDA")
    channels_last: bool = Field(default=True, description="lay out weights and features with the channels last")
    frozen_features: Literal["auto", "float32", "float16", "off"] = Field(
        "auto",
        description="compute what the frozen stages of the backbone make of an image once and keep it, in this "
        "precision; auto does so in float32 on the CPU, off computes the stages at each use",
    )
    snapshots: int | None = Field(
        None,
        ge=0,
        description="number of states kept along the training; null keeps one per epoch if the strategy needs them",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes CUDA where there is one")
    threads: int = Field(0, ge=0, description="CPU threads; 0 takes all cores")
    decoding: Literal["reduced", "full"] = Field(
        "reduced",
        description="decode a JPEG file of more than 2 megapixels at 1/2, 1/4 or 1/8 of its size, as long as that is "
        "1.5 times what the detector sees; full decodes every image at its whole size",
    )
    decoding_threads: int = Field(
        0, ge=0, description="threads that read images ahead of the step; 0 takes 1 on the CPU, and up to 8 for a GPU"
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="seconds between checkpoints inside a training")
    cache_gib: float = Field(
        8.0, gt=0, description="GiB of disk for what can be computed again: pixels, features, scores"
    )

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

    @model_validator(mode="after")
    def _one_balance(self) -> "TrainingConfig":
        semi = self.semi_supervised
        if semi is not None and self.class_balance is not None:
            reason = self.class_balance.conflict(semi.style, gradient_balance=semi.gradient_balance)
            if reason:
                msg = f"class_balance: {reason}"
                raise ValueError(msg)
        return self

    @property
    def absent(self) -> frozenset[str]:
        """Keys that are null and were added later: hashes of models leave them out, and stay what they were before."""
        return frozenset({"class_balance"}) if self.class_balance is None else frozenset()


class EvaluationConfig(Block):
    """How AP is measured."""

    max_detections: int | None = Field(
        None,
        ge=1,
        description="detections of each class in an image that AP counts, best first; COCO counts 100; "
        "null for all that the detector gives",
    )
    keep_detections: bool = Field(
        default=False,
        description="keep the test detections in the run folder; `alloop compare --over-groups` needs them",
    )


class LoopConfig(Block):
    """How much is bought in each round. Amounts are `80`, `"80 images"` or `"500 boxes"`."""

    seed_set: AmountField = Field(description="random images labeled before round 0")
    seed_images: Path | None = Field(
        None, description="file of image ids, one per line, to take the seed set from; null for random images"
    )
    query_size: AmountField = Field(description="amount bought after each round but the last")
    rounds: int = Field(ge=1, le=100_000, description="number of rounds that are trained and evaluated")
    budget: AmountField | None = Field(None, description="limit of all purchases, seed set included; null for none")
    min_distance: DistanceField | None = Field(
        None,
        description="least distance of an image to what is labeled and to what the same purchase takes: `10 bits` of "
        "the perceptual hash, or `0.1 cosine` of the embedding; null for any",
    )
    per_group: int | None = Field(
        None, ge=1, description="most images of one group (`data.groups`) in a purchase; null for any number"
    )

    @model_validator(mode="after")
    def _possible(self) -> "LoopConfig":
        budget = self.budget
        if budget and budget.unit == self.seed_set.unit and self.seed_set.number > budget.number:
            msg = f"budget: {budget} does not even pay for the seed set of {self.seed_set}"
            raise ValueError(msg)
        return self
