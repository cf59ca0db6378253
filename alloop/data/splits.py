"""From the data block of a config to three splits: train (the pool), reference, test."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from alloop.config.blocks import DataConfig, SplitConfig
from alloop.data.digits import DigitScenes, Part, digit_scenes
from alloop.data.formats.coco import read_coco
from alloop.data.formats.cvat import read_cvat
from alloop.data.formats.label_studio import read_label_studio
from alloop.data.formats.voc import read_voc, voc_root
from alloop.data.formats.yolo import read_yolo, yolo_roots
from alloop.data.images import FolderImages, ImageSource
from alloop.data.records import DataSet, Records, validate
from alloop.errors import ConfigError, DataError, nearest

READERS: dict[str, Callable[[Path], Records]] = {
    "coco": read_coco,
    "voc": read_voc,
    "yolo": read_yolo,
    "cvat": read_cvat,
    "label_studio": read_label_studio,
}


@dataclass(frozen=True, slots=True)
class Split:
    """A data set and its pixels."""

    dataset: DataSet
    images: ImageSource


@dataclass(frozen=True, slots=True)
class Splits:
    """The three splits. `shared` says that one split serves as reference and test."""

    train: Split
    reference: Split
    test: Split
    shared: bool

    def fingerprint(self) -> str:
        """Content of all three."""
        return " ".join(split.dataset.fingerprint() for split in (self.train, self.reference, self.test))


def load_splits(config: DataConfig) -> Splits:
    """Read, validate and match the splits.

    Raises:
        DataError: a file that cannot be used, or splits whose classes differ.
        ConfigError: unknown parameters of `digit_scenes`.
    """
    if config.digit_scenes is not None:
        return _embedded(config.digit_scenes)
    if config.train is None:
        msg = "data.train: this key is required and missing"
        raise ConfigError(msg)
    train = load_split(config.train)
    reference = load_split(config.reference) if config.reference else None
    test = load_split(config.test) if config.test else None
    for name, other in (("reference", reference), ("test", test)):
        if other and other.dataset.class_names != train.dataset.class_names:
            msg = (
                f"data.{name}: its classes {list(other.dataset.class_names)} differ from those of train "
                f"{list(train.dataset.class_names)}; give both files the same categories in the same order"
            )
            raise DataError(msg)
    first, second = reference or test, test or reference
    if first is None or second is None:
        msg = "data: give reference, test or both"
        raise ConfigError(msg)
    return Splits(train, first, second, shared=reference is None or test is None)


def load_split(config: SplitConfig) -> Split:
    """Read and validate one split."""
    dataset = validate(READERS[config.format](config.annotations), str(config.annotations))
    root = config.images or default_image_folder(config.annotations, config.format)
    return Split(dataset, FolderImages(root, dataset.images))


def default_image_folder(annotations: Path, format_: str) -> Path:
    """Where the images of a VOC or YOLO folder lie; for the others the folder of the file."""
    if format_ == "yolo":
        return yolo_roots(annotations)[1]
    if format_ == "voc":
        root, _ = voc_root(annotations)
        return root / "JPEGImages" if (root / "JPEGImages").is_dir() else root
    return annotations if annotations.is_dir() else annotations.parent


def _embedded(tree: dict[str, object]) -> Splits:
    try:
        parameters = DigitScenes.model_validate(tree)
    except ValidationError as error:
        item = error.errors()[0]
        key = ".".join(map(str, item["loc"]))
        hint = nearest(key, DigitScenes.model_fields) if item["type"] == "extra_forbidden" else ""
        msg = f"data.digit_scenes.{key}: {item['msg']}{hint}, found {item['input']!r}"
        raise ConfigError(msg) from error
    parts: dict[Part, int] = {"pool": parameters.pool, "reference": parameters.reference, "test": parameters.test}
    made = {part: digit_scenes(parameters, part, count) for part, count in parts.items()}
    pool, reference, test = (Split(made[p].dataset, made[p].images) for p in ("pool", "reference", "test"))
    return Splits(pool, reference, test, shared=False)
