"""The block `training` of a config, and which of its keys change the result of a training."""

from typing import Any, Literal

from pydantic import Field, model_validator

from alloop.config.blocks import Block
from alloop.config.class_balance import ClassBalanceBlock


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
    warm_up: float = Field(0.05, ge=0, lt=1, description="share of the training before GbR starts")
    threshold_warm_up: float | None = Field(
        None, ge=0, lt=1, description="share of the training before GbT starts; null for 1.5 times warm_up"
    )
    refresh: float = Field(0.1, gt=0, le=1, description="CrS: share of the training between two counts of the classes")
    momentum: float = Field(0.999, ge=0, lt=1, description="momentum of the running means of GbR and GbT")


CHANGES_NO_RESULT = frozenset(
    {"checkpoint_seconds", "cache_gib", "decoding_threads", "keep_models"}
)  # keys of `training`
WITHOUT_EFFECT: dict[str, Any] = {
    "class_balance": None,
    "start": "scratch",
    "warmup_share": None,
    "warmup_shape": "linear",
    "bias_lr_factor": 1.0,
    "bias_decay": True,
    "crop_padding": 0,
}
"""Keys of `training` that were added later, with the value under which a training is as it was without them."""

BEFORE_THE_KEY = {"decoding": "full"}  # what a run of a version without the key of `training` did


class TrainingConfig(Block):
    """The training of a round."""

    start: Literal["scratch", "previous"] = Field(
        "scratch",
        description="what a round's training starts from: scratch for the weights that the detector names, in every "
        "round anew; previous for the detector of the round before",
    )
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="optimizer: sgd or adamw")
    lr: float = Field(0.01, gt=0, description="peak learning rate")
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum of sgd")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay")
    batch_size: int = Field(8, ge=1, description="images per step, in training and in scoring")
    epochs: float | None = Field(None, gt=0, description="passes over the labeled images; give this or iterations")
    iterations: int | None = Field(None, ge=1, description="steps; give this or epochs")
    warmup_iterations: int = Field(0, ge=0, description="steps of warm-up")
    warmup_share: float | None = Field(
        None, gt=0, lt=1, description="warm-up as a share of the training, instead of warmup_iterations"
    )
    warmup_ratio: float = Field(1 / 3, gt=0, le=1, description="share of lr at the start of the warm-up")
    warmup_shape: Literal["linear", "constant"] = Field(
        "linear", description="linear rises to lr during the warm-up, constant stays at warmup_ratio until its end"
    )
    bias_lr_factor: float = Field(1.0, gt=0, description="factor of lr for biases")
    bias_decay: bool = Field(default=True, description="whether weight decay acts on biases")
    schedule: Literal["constant", "step", "cosine"] = Field(
        "step", description="learning rate after the warm-up: constant, step or cosine"
    )
    milestones: tuple[float, ...] = Field((2 / 3, 11 / 12), description="shares of the training at which lr drops")
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each drop")
    clip_norm: float | None = Field(10.0, gt=0, description="gradient norm limit; null for none")
    flip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    crop_padding: int = Field(
        0, ge=0, description="classification: pixels of border from which a window of the image's size is cut at random"
    )
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
    keep_models: Literal["all", "last"] = Field(
        "all",
        description="models, or answers of another program, that stay on disk: those of all finished rounds, or of the "
        "last one; compare, report and export need none",
    )

    @model_validator(mode="after")
    def _one_length(self) -> "TrainingConfig":
        if self.warmup_share is not None and self.warmup_iterations:
            msg = "give either warmup_iterations or warmup_share"
            raise ValueError(msg)
        if self.epochs is not None and self.iterations is not None:
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
    def of_a_network(self) -> dict[str, Any]:
        """The given keys that say how a network is trained, for a detector that has none."""
        free = {*CHANGES_NO_RESULT, "device", "threads"}
        return {key: value for key, value in self.model_dump(exclude_defaults=True).items() if key not in free}

    @property
    def absent(self) -> frozenset[str]:
        """Keys that were added later and have no effect: hashes of models leave them out, and stay as they were."""
        return frozenset(key for key, default in WITHOUT_EFFECT.items() if getattr(self, key) == default)
