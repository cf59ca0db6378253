"""A folder of images, some of them labeled or none, made into a pool that people can be asked about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from alloop.data.data_set import DataSet
from alloop.data.formats.classes import ClassIds
from alloop.data.formats.coco import write_coco
from alloop.data.formats.table import annotation_format
from alloop.data.image_index import ImageIndex, hidden_images, index_of_folder
from alloop.data.notes import Note, Notes
from alloop.data.reading import changed, read_annotations, with_file_names
from alloop.data.records import Records
from alloop.data.validation import refuse_unusable, validate
from alloop.errors import ConfigError, DataError
from alloop.files import atomic_write, refuse_missing
from alloop.values import ImageId, ImageRecord


@dataclass(frozen=True, slots=True)
class Imported:
    """Where the pool and the list of labeled images were written, what they hold, and what was read leniently."""

    pool: Path
    labeled: Path | None
    dataset: DataSet
    notes: tuple[Note, ...]

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.dataset.images)

    @property
    def labeled_images(self) -> int:
        """Number of images that somebody has finished annotating."""
        return self.images - len(self.dataset.unlabeled)

    @property
    def empty_images(self) -> int:
        """Number of labeled images without a box."""
        labeled = self.dataset.images.keys() - self.dataset.unlabeled
        return sum(not len(self.dataset.annotations[image_id]) for image_id in labeled)

    @property
    def boxes(self) -> int:
        """Number of boxes."""
        return self.dataset.boxes


def import_project(
    images: Path, out: Path, *, annotations: Path | None = None, format_: str = "coco", classes: Sequence[str] = ()
) -> Imported:
    """Write `pool.json`, all images of a folder with the labels that exist, and `labeled.txt`, the ids of those.

    What was read is validated before anything is made of it. An image counts as labeled when the format says that
    somebody has finished it: COCO lists it, VOC and YOLO have its file, Label Studio has an annotation that is no
    skip, CVAT has a box on it or the tag `alloop_done`. The others stand in `pool.json` under the key `unlabeled`.

    Args:
        images: folder of the images, searched in depth; hidden files are left out.
        out: folder to write into; files that are there are not overwritten.
        annotations: what is labeled already.
        format_: of the annotations.
        classes: names, in order, in addition to those of the annotations.

    Raises:
        DataError: no images, a labeled image that is not in the folder or has another size, a name that may mean
            several images, files that exist.
        ConfigError: no classes at all, an unknown format, or `images` is not there.
    """
    refuse_missing(images)
    pool, listed = out / "pool.json", out / "labeled.txt"
    _refuse_existing((pool, listed))
    index = index_of_folder(images)
    if not index.names:
        msg = f"{images}: expected a folder with images, found none"
        raise DataError(msg)
    known = _known_labels(annotations, format_, classes, index)
    records = _whole_folder(known, index)
    dataset = validate(records, str(annotations or images))
    atomic_write(pool, write_coco(records))
    labeled_ids = sorted(dataset.images.keys() - dataset.unlabeled)
    if labeled_ids:
        atomic_write(listed, "".join(f"{image_id}\n" for image_id in labeled_ids).encode())
    return Imported(pool, listed if labeled_ids else None, dataset, (*records.notes, *_hidden(images)))


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            msg = f"{path}: exists already; give another --out, nothing is overwritten"
            raise DataError(msg)


def _hidden(images: Path) -> tuple[Note, ...]:
    notes, hidden = Notes(), hidden_images(images)
    notes.add("a hidden file or folder; left out", hidden[0] if hidden else "", len(hidden))
    return notes.listed()


def _known_labels(annotations: Path | None, format_: str, classes: Sequence[str], index: ImageIndex) -> Records:
    """Read, validate, and find every image in the folder."""
    if annotations is None:
        return _with_more_classes(Records([], []), classes)
    records = read_annotations(annotations, annotation_format(format_, "--from"), index)
    records = _with_more_classes(records, classes)
    refuse_unusable(records, str(annotations))
    records = with_file_names(records, index, str(annotations))
    return _those_in_folder(records, index, annotations)


def _with_more_classes(records: Records, names: Sequence[str]) -> Records:
    classes = ClassIds(records.categories, first=0)
    for name in names:
        classes.id_of(name)
    if not classes.categories:
        msg = "--classes: nothing names the classes; give them, comma-separated"
        raise ConfigError(msg)
    return msgspec.structs.replace(records, categories=classes.categories)


def _those_in_folder(records: Records, index: ImageIndex, annotations: Path) -> Records:
    """Return records without the unlabeled images that are not in the folder, counted in a note.

    Raises:
        DataError: a labeled image is not in the folder, or has another size than it was labeled on.
    """
    names, notes, images = frozenset(index.names), Notes(), list[ImageRecord]()
    for image in records.images:
        where = f"{annotations}: image {image.image_id} ({image.file_name})"
        if image.file_name not in names and image.image_id in records.unlabeled:
            notes.add("it is not labeled and not in the image folder; left out", where)
            continue
        images.append(image)
        if image.file_name not in names:
            msg = f"{where} is not in the image folder{index.near(image.file_name)}; restore or rename it"
            raise DataError(msg)
        width, height = index.size_of(image.file_name)
        if (width, height) != (image.width, image.height):
            msg = (
                f"{where}: labeled on {image.width} x {image.height} pixels, the file shows {width} x {height}; "
                "its boxes cannot be trusted"
            )
            raise DataError(msg)
    unlabeled = records.unlabeled & {image.image_id for image in images}
    return changed(records, notes, images=images, unlabeled=unlabeled)


def _whole_folder(known: Records, index: ImageIndex) -> Records:
    """Return records of all images of the folder; those that are not listed are unlabeled and get the next ids."""
    by_name = {image.file_name: image for image in known.images}
    largest = max((image.image_id for image in known.images), default=0)
    images, unlabeled = list[ImageRecord](), set(known.unlabeled)
    for name in index.names:
        if name in by_name:
            images.append(by_name[name])
            continue
        largest += 1
        images.append(ImageRecord(ImageId(largest), name, *index.size_of(name)))
        unlabeled.add(ImageId(largest))
    return msgspec.structs.replace(known, images=images, unlabeled=frozenset(unlabeled))
