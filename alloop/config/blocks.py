"""The blocks of a config as typed models: the meaning of each key, its default, and which values are refused."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from alloop.budget.amounts import Amount
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
    ignored: Literal["skipped", "counted"] = Field(
        "skipped",
        description="boxes marked ignore (difficult in VOC): skipped (paid, not trained on, and AP counts them neither "
        "as found nor as missed), or counted like all others, in training and in AP",
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
    digits: bool = Field(default=False, description="true for the embedded images of one digit each, to classify")

    @property
    def is_embedded(self) -> bool:
        """Whether the data come with alloop, and no file holds them."""
        return self.digits or self.digit_scenes is not None

    @model_validator(mode="after")
    def _one_source(self) -> "DataConfig":
        given = (self.train is not None, self.digit_scenes is not None, self.digits)
        if sum(given) != 1:
            msg = "give either train (with reference or test) or digit_scenes"
            raise ValueError(msg)
        if self.train is not None and self.reference is None and self.test is None:
            msg = "give reference, test or both: AP must be measured on something that is not the pool"
            raise ValueError(msg)
        if self.train is None and (self.reference or self.test or self.classes):
            name = "digits" if self.digits else "digit_scenes"
            msg = f"{name} brings its own reference and test splits, and its classes; remove these keys"
            raise ValueError(msg)
        return self


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

    seed_set: AmountField = Field(description="images labeled before round 0")
    seed_images: Path | None = Field(
        None, description="file of image ids, one per line, to take the seed set from; null for random images"
    )
    first_batch: str = Field(
        "random",
        description="strategy that picks the seed set without labels, by the weights that training starts from: "
        "max_herding, k_center; or random",
    )
    embeddings: Path | None = Field(
        None,
        description="`.npy` file with a row of numbers for each image of the pool, which `first_batch` then uses "
        "instead of the detector's embeddings; null for those",
    )
    embedding_ids: Path | None = Field(
        None,
        description="text file with the image of each row of `embeddings`, an id or a file name on each line; null for "
        "the order of the COCO file of the pool",
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
        if self.embedding_ids is not None and self.embeddings is None:
            msg = "embedding_ids: it names the images of the rows of embeddings, which is not given; give both"
            raise ValueError(msg)
        return self
