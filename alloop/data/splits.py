"""From the data block of a config to three splits: train (the pool), reference and test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from alloop.config.blocks import DataConfig, GroupsConfig, SplitConfig
from alloop.data.cache_folder import CacheFolder
from alloop.data.classification.data_set import ClassifiedDataSet
from alloop.data.common_classes import class_names_of, with_common_classes
from alloop.data.data_set import DataSet
from alloop.data.digits import digit_scenes_parameters
from alloop.data.formats.table import annotation_format
from alloop.data.groups import groups_of, refuse_straddling, with_groups
from alloop.data.image_index import index_of_folder
from alloop.data.images import FolderImages, ImageSource
from alloop.data.kept_digits import kept_digit_scenes
from alloop.data.reading import ignored_as_counted, labeled_only, read_annotations, unlabeled_as_empty, with_file_names
from alloop.data.records import Records
from alloop.data.validation import validate
from alloop.errors import ConfigError
from alloop.files import refuse_missing


@dataclass(frozen=True, slots=True)
class Split:
    """A data set of either task, and its pixels."""

    dataset: DataSet | ClassifiedDataSet
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


def load_splits(config: DataConfig, *, for_people: bool = False, kept: CacheFolder | None = None) -> Splits:
    """Read and validate the splits, and give them the same classes.

    Args:
        config: the data block.
        for_people: keep the images of the pool that nobody has annotated, because people will be asked about them.
        kept: where the embedded set is found if another process has drawn it.

    Raises:
        DataError: a file that cannot be used, or a box whose class is not among the classes.
        ConfigError: a missing split, annotations that are not there, an unknown format, or unknown parameters of
            `digit_scenes`.
    """
    if config.digit_scenes is not None:
        return _embedded(config.digit_scenes, config.groups, kept)
    if config.train is None:
        msg = "data.train: this key is required and missing"
        raise ConfigError(msg)
    blocks = _blocks(config)
    for name, block in blocks.items():  # refused before a large file is read
        annotation_format(block.format, f"data.{name}.format")
    for name, block in blocks.items():
        refuse_missing(block.annotations, f"data.{name}.annotations")
    names = class_names_of(config)
    records = {
        f"data.{name}": _read(
            block, f"data.{name}", names, config.groups, keeps_unlabeled=for_people and name == "train"
        )
        for name, block in blocks.items()
    }
    refuse_straddling({key: own.groups for key, own in records.items()})
    splits = {
        key: _split(own, blocks[key.removeprefix("data.")], key)
        for key, own in with_common_classes(records, names).items()
    }
    reference, test = splits.get("data.reference"), splits.get("data.test")
    first, second = reference or test, test or reference
    if first is None or second is None:
        msg = "data: give reference, test or both"
        raise ConfigError(msg)
    return Splits(splits["data.train"], first, second, shared=reference is None or test is None)


def refuse_missing_files(config: DataConfig) -> None:
    """Refuse annotations and image folders that are not there, before anything is read.

    Raises:
        ConfigError: with the key, the path, and the most similar name beside it.
    """
    for name, block in _blocks(config).items():
        refuse_missing(block.annotations, f"data.{name}.annotations")
        refuse_missing(_image_folder(block, f"data.{name}"), f"data.{name}.images")


def _blocks(config: DataConfig) -> dict[str, SplitConfig]:
    """Return the blocks of the splits that a config has."""
    blocks = {"train": config.train, "reference": config.reference, "test": config.test}
    return {name: block for name, block in blocks.items() if block is not None}


def _read(
    config: SplitConfig, key: str, names: Sequence[str], groups: GroupsConfig | None, *, keeps_unlabeled: bool
) -> Records:
    """Return the records of a split under the file names that its images have, with their groups."""
    format_, name = annotation_format(config.format, f"{key}.format"), str(config.annotations)
    index = index_of_folder(_image_folder(config, key))
    records = with_file_names(read_annotations(config.annotations, format_, index, names, groups), index, name)
    if records.unlabeled and not keeps_unlabeled:
        records = unlabeled_as_empty(records, name) if config.unlabeled == "empty" else labeled_only(records, name)
    if config.ignored == "counted":
        records = ignored_as_counted(records, name)
    return with_groups(records, groups, name)


def _split(records: Records, config: SplitConfig, key: str) -> Split:
    dataset = validate(records, str(config.annotations))
    return Split(dataset, FolderImages(_image_folder(config, key), dataset.images))


def _image_folder(config: SplitConfig, key: str) -> Path:
    return config.images or annotation_format(config.format, f"{key}.format").image_folder(config.annotations)


def _embedded(tree: Mapping[str, object], rule: GroupsConfig | None, kept: CacheFolder | None) -> Splits:
    parameters = digit_scenes_parameters(tree, "data.digit_scenes.")
    pool, reference, test = (
        Split(_grouped(dataset, rule), images)
        for dataset, images in (
            kept_digit_scenes(parameters, part, count, kept) for part, count in parameters.parts().items()
        )
    )
    refuse_straddling({split.dataset.name: split.dataset.groups for split in (pool, reference, test)})
    return Splits(pool, reference, test, shared=False)


def _grouped(dataset: DataSet, rule: GroupsConfig | None) -> DataSet:
    if rule is None:
        return dataset
    return replace(dataset, groups=groups_of(list(dataset.images.values()), rule, {}, dataset.name))
