"""The images to choose from and what is labeled already, read from files without a run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alloop.data.data_set import DataSet
from alloop.data.formats.table import annotation_format, guess_format
from alloop.data.image_index import index_of_folder, match_names
from alloop.data.notes import Notes
from alloop.data.reading import read_annotations, with_classes
from alloop.data.records import Records
from alloop.data.submissions import size_problem
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from alloop.predictions.rows import Classes
from alloop.values import Annotations, ImageId, ImageRecord


@dataclass(frozen=True, slots=True)
class SelectionPool:
    """Images, and which of them may be chosen.

    Attributes:
        images: the images of the pool in the order of its file, then labeled images that are not in it.
        unlabeled: the images to choose from.
        labeled: what is labeled, by image.
        classes: the classes.
        outside: how many labeled images are not in the pool; they are the last ones.
    """

    images: tuple[ImageRecord, ...]
    unlabeled: tuple[ImageId, ...]
    labeled: Mapping[ImageId, Annotations]
    classes: Classes
    outside: int = 0

    @property
    def by_id(self) -> dict[ImageId, ImageRecord]:
        """The images by id."""
        return {image.image_id: image for image in self.images}


def read_pool(pool: Path, labeled: Path | None, classes: Sequence[str], notes: Notes) -> SelectionPool:
    """Read the pool, and what is labeled.

    What is labeled stands in `labeled`. Without it, it is what the pool's own file has labeled, where that file says
    which images nobody has annotated (as `alloop import` writes it); else every image may be chosen.

    Args:
        pool: annotations in any format, or a folder of images.
        labeled: annotations in any format; images are matched by name, and those outside of the pool get new ids.
        classes: names of the classes, in label order; by default those of the pool, else of what is labeled.
        notes: counts what was read leniently.

    Raises:
        DataError: a file cannot be read or used, or no image is left to choose.
        ConfigError: nothing names the classes.
    """
    records = _records_of_images(pool) if _is_image_folder(pool) else _read(pool, classes)
    given = _read(labeled, classes) if labeled is not None else None
    known = _classes(records, given, classes)
    if given is not None:
        return _with_labeled(records, validate(_with(given, known), str(labeled)), str(labeled), known, notes)
    if not records.unlabeled:
        count = len(records.annotations)
        notes.add("annotations of the pool are not looked at; name what is labeled with --labeled", str(pool), count)
        return SelectionPool(tuple(records.images), tuple(i.image_id for i in records.images), {}, known)
    dataset = validate(_with(records, known), str(pool))
    done = {i: dataset.annotations[i] for i in dataset.images if i not in dataset.unlabeled}
    unlabeled = tuple(i for i in dataset.images if i in dataset.unlabeled)
    return SelectionPool(tuple(records.images), unlabeled, done, known)


def _is_image_folder(path: Path) -> bool:
    return path.is_dir() and guess_format(path) == "voc" and next(path.rglob("*.xml"), None) is None


def _records_of_images(folder: Path) -> Records:
    index = index_of_folder(folder)
    if not index.names:
        msg = f"{folder}: expected images or annotations, found none"
        raise DataError(msg)
    images = [ImageRecord(ImageId(n), name, *index.size_of(name)) for n, name in enumerate(index.names, start=1)]
    return Records(images, [], unlabeled=frozenset())


def _read(path: Path, classes: Sequence[str]) -> Records:
    return read_annotations(path, annotation_format(guess_format(path), "annotations"), None, classes)


def _classes(pool: Records, labeled: Records | None, names: Sequence[str]) -> Classes:
    """Return the classes: those that were given, else of the pool, else of what is labeled."""
    categories = pool.categories or (labeled.categories if labeled else [])
    ids = {category.name: category.id for category in categories}
    if names:
        free = iter(range(max(ids.values(), default=0) + 1, max(ids.values(), default=0) + 1 + len(names)))
        return Classes(tuple(names), tuple(ids[name] if name in ids else next(free) for name in names))
    if not ids:
        msg = "--classes: nothing names the classes; give them, comma-separated, in the order of their numbers"
        raise ConfigError(msg)
    return Classes(tuple(ids), tuple(ids.values()))


def _with(records: Records, classes: Classes) -> Records:
    """Return records with the classes in their order; classes that they lack are those without a box."""
    return with_classes(records, classes.names, "the annotations")


def _with_labeled(records: Records, labeled: DataSet, place: str, classes: Classes, notes: Notes) -> SelectionPool:
    """Return the pool without what is labeled, which keeps its annotations under the ids of the pool."""
    done = [image for image in labeled.images.values() if image.image_id not in labeled.unlabeled]
    matches = match_names([image.file_name for image in done], records.images, place)
    for note in matches.notes:
        notes.add(note.rule, note.first, note.count)
    images = list(records.images)
    free = max((image.image_id for image in images), default=0) + 1
    truths: dict[ImageId, Annotations] = {}
    for image in done:
        own = matches.by_name.get(image.file_name)
        if own is None:
            own = ImageRecord(ImageId(free), image.file_name, image.width, image.height)
            images.append(own)
            free += 1
        problem = size_problem((image.width, image.height), (own.width, own.height))
        if problem:
            msg = f"{place}: image {image.image_id} ({image.file_name}): {problem}"
            raise DataError(msg)
        truths[own.image_id] = labeled.annotations[image.image_id]
    unlabeled = tuple(image.image_id for image in records.images if image.image_id not in truths)
    if not unlabeled:
        raise DataError(f"{place}: labels every image of the pool; none is left to choose")
    return SelectionPool(tuple(images), unlabeled, truths, classes, outside=len(images) - len(records.images))
