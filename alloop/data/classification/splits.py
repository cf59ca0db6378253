"""From the data block of a config to the three splits of a classification task."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from alloop.config.blocks import DataConfig, GroupsConfig, SplitConfig
from alloop.data.classification.cifar import read_cifar
from alloop.data.classification.class_csv import read_class_csv
from alloop.data.classification.class_folders import read_class_folders
from alloop.data.classification.classified import UNLABELED, ClassifiedImages
from alloop.data.classification.data_set import ClassifiedDataSet
from alloop.data.classification.embedded_digits import embedded_digits
from alloop.data.classification.idx import read_idx_set
from alloop.data.classification.labels import labels_of, records_of
from alloop.data.common_classes import class_names_of
from alloop.data.groups import groups_of, refuse_straddling
from alloop.data.images import FolderImages, ImageSource, MemoryImages
from alloop.data.splits import Split, Splits
from alloop.errors import ConfigError, DataError, nearest
from alloop.files import refuse_missing

Reader = Callable[[SplitConfig, Literal["train", "test"], Sequence[str]], ClassifiedImages]
"""From the block of a split, its part of a set of several parts, and class names, to its images."""


def _csv_images(block: SplitConfig) -> Path:
    return block.images or block.annotations.parent


FORMATS: Mapping[str, tuple[Reader, Callable[[SplitConfig], Path | None]]] = {
    "class_folders": (lambda block, _, names: read_class_folders(block.annotations, names), lambda b: b.annotations),
    "class_csv": (lambda block, _, names: read_class_csv(block.annotations, _csv_images(block), names), _csv_images),
    "cifar": (lambda block, part, _: read_cifar(block.annotations, part), lambda _: None),
    "idx": (lambda block, part, names: read_idx_set(block.annotations, part, names), lambda _: None),
}
"""The sources of images with one class each, by name: what reads one, and where its image files are, if it has any."""


def image_folder_of(block: SplitConfig) -> Path | None:
    """Return where the image files of a split are; None where its images are stored otherwise."""
    return FORMATS[block.format][1](block)


def load_classified_splits(config: DataConfig, *, for_people: bool = False) -> Splits:
    """Read the splits, and give them the same classes: those of `data.classes`, else those of the pool.

    The pool of CIFAR and of IDX files is their training part; both other splits are the test part.

    Args:
        config: the data block.
        for_people: keep the images of the pool that nobody has labeled, because people will be asked about them.

    Raises:
        ConfigError: a missing split, a source that is not there, or an unknown format.
        DataError: a source that cannot be used, or an image whose class is not among the classes.
    """
    if config.digits:
        pool, reference, test = (
            _split(embedded_digits(part), part, config.groups) for part in ("pool", "reference", "test")
        )
        return Splits(pool, reference, test, shared=False)
    blocks = {"train": config.train, "reference": config.reference, "test": config.test}
    names: Sequence[str] = class_names_of(config)
    splits: dict[str, Split] = {}
    for name, block in blocks.items():
        if block is None:
            continue
        found = _read(block, name, names)
        names = names or found.class_names
        if tuple(names) != found.class_names:
            msg = f"data.{name}: {block.annotations} has other classes than the pool; name them in data.classes"
            raise DataError(msg)
        if not (for_people and name == "train"):
            found = _labeled(found)
        splits[name] = _split(found, str(block.annotations), config.groups)
    refuse_straddling({f"data.{name}": split.dataset.groups for name, split in splits.items()})
    first, second = splits.get("reference", splits.get("test")), splits.get("test", splits.get("reference"))
    assert first is not None
    assert second is not None  # the block refuses data without either
    return Splits(splits["train"], first, second, shared=len(splits) == 2)


def refuse_missing_classified(config: DataConfig) -> None:
    """Refuse sources and image folders that are not there, and unknown formats, before anything is read.

    Raises:
        ConfigError: with the key, the path, and the most similar name beside it.
    """
    for name in ("train", "reference", "test"):
        block: SplitConfig | None = getattr(config, name)
        if block is not None:
            _known(block, name)
            refuse_missing(block.annotations, f"data.{name}.annotations")
            refuse_missing(image_folder_of(block) or block.annotations, f"data.{name}.images")


def _known(block: SplitConfig, name: str) -> Reader:
    if block.format not in FORMATS:
        known = ", ".join(FORMATS)
        msg = f"data.{name}.format: {block.format!r} holds no classes of images; the formats are {known}"
        raise ConfigError(f"{msg}{nearest(block.format, list(FORMATS))}")
    return FORMATS[block.format][0]


def _read(block: SplitConfig, name: str, class_names: Sequence[str]) -> ClassifiedImages:
    read = _known(block, name)
    refuse_missing(block.annotations, f"data.{name}.annotations")
    found = read(block, "train" if name == "train" else "test", class_names)
    if not found.names:
        msg = f"data.{name}: {block.annotations} has no image"
        raise DataError(msg)
    return found


def _labeled(found: ClassifiedImages) -> ClassifiedImages:
    """Leave out the images that nobody has labeled."""
    kept = found.labels != UNLABELED
    if kept.all():
        return found
    names = tuple(name for name, is_kept in zip(found.names, kept, strict=True) if is_kept)
    pixels = None if found.pixels is None else found.pixels[kept]
    return ClassifiedImages(names, found.labels[kept], found.class_names, pixels, found.folder)


def _split(found: ClassifiedImages, name: str, rule: GroupsConfig | None) -> Split:
    records = records_of(found)
    labels, unlabeled = labels_of(found, records)
    images = {record.image_id: record for record in records}
    groups = {} if rule is None else groups_of(records, rule, {}, name)
    dataset = ClassifiedDataSet(name, images, labels, found.class_names, frozenset(unlabeled), groups)
    source: ImageSource
    if found.pixels is not None:
        source = MemoryImages(dict(zip(images, found.pixels, strict=True)), images)
    else:
        assert found.folder is not None
        source = FolderImages(found.folder, images)
    return Split(dataset, source)
