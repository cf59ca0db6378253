"""From the data block of a config to three splits: train (the pool), reference and test."""

from collections.abc import Mapping
from dataclasses import dataclass

from alloop.config.blocks import DataConfig, SplitConfig
from alloop.data.data_set import DataSet
from alloop.data.digits import digit_scenes, digit_scenes_parameters
from alloop.data.formats.table import annotation_format
from alloop.data.images import FolderImages, ImageSource
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError


@dataclass(frozen=True, slots=True)
class Split:
    """A data set and its pixels."""

    dataset: DataSet
    images: ImageSource


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits. `shared` is true where one split serves as reference and as test."""

    train: Split
    reference: Split
    test: Split
    shared: bool

    def fingerprint(self) -> str:
        """Return the fingerprints of all three data sets."""
        return " ".join(split.dataset.fingerprint() for split in (self.train, self.reference, self.test))


def load_splits(config: DataConfig) -> Splits:
    """Read and validate the splits, and check that their classes are the same.

    Raises:
        DataError: a file that cannot be used, or splits whose classes differ.
        ConfigError: a missing split, an unknown format, or unknown parameters of `digit_scenes`.
    """
    if config.digit_scenes is not None:
        return _embedded(config.digit_scenes)
    if config.train is None:
        msg = "data.train: this key is required and missing"
        raise ConfigError(msg)
    for name, block in (("train", config.train), ("reference", config.reference), ("test", config.test)):
        if block:
            annotation_format(block.format, f"data.{name}.format")  # refused before a large file is read
    train = load_split(config.train, "data.train")
    reference = load_split(config.reference, "data.reference") if config.reference else None
    test = load_split(config.test, "data.test") if config.test else None
    _require_same_classes(train, {"reference": reference, "test": test})
    first, second = reference or test, test or reference
    if first is None or second is None:
        msg = "data: give reference, test or both"
        raise ConfigError(msg)
    return Splits(train, first, second, shared=reference is None or test is None)


def load_split(config: SplitConfig, key: str) -> Split:
    """Read and validate one split; `key` is the key of its block, for messages.

    Raises:
        DataError: the annotations cannot be used.
        ConfigError: an unknown format.
    """
    format_ = annotation_format(config.format, f"{key}.format")
    dataset = validate(format_.read(config.annotations), str(config.annotations))
    folder = config.images or format_.image_folder(config.annotations)
    return Split(dataset, FolderImages(folder, dataset.images))


def _require_same_classes(train: Split, others: Mapping[str, Split | None]) -> None:
    for name, other in others.items():
        if other and other.dataset.class_names != train.dataset.class_names:
            msg = (
                f"data.{name}: its classes {list(other.dataset.class_names)} differ from those of train "
                f"{list(train.dataset.class_names)}; give both files the same categories in the same order"
            )
            raise DataError(msg)


def _embedded(tree: Mapping[str, object]) -> Splits:
    parameters = digit_scenes_parameters(tree, "data.digit_scenes.")
    pool, reference, test = (
        Split(scenes.dataset, scenes.images)
        for scenes in (digit_scenes(parameters, part, count) for part, count in parameters.parts().items())
    )
    return Splits(pool, reference, test, shared=False)
