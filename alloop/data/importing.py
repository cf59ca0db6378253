"""A folder of images, some of them labeled or none, made into a pool that people can be asked about."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alloop.data.formats.classes import ClassIds
from alloop.data.formats.coco import write_coco
from alloop.data.formats.names import last_part
from alloop.data.formats.table import annotation_format
from alloop.data.images import SUFFIXES, image_size
from alloop.data.records import Box, Category, Records
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from alloop.files import atomic_write
from alloop.values import ImageId, ImageRecord

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file


@dataclass(frozen=True, slots=True)
class Imported:
    """Where the pool and the list of labeled images were written, and how many there are."""

    pool: Path
    labeled: Path | None
    images: int
    labeled_images: int
    boxes: int


@dataclass(frozen=True, slots=True)
class Labels:
    """Annotations that exist already: images, their boxes, the classes. Only finished images are kept."""

    images: tuple[ImageRecord, ...] = ()
    boxes: tuple[Box, ...] = ()
    categories: tuple[Category, ...] = ()
    largest_id: int = 0  # of all images, also those that are not finished


def import_project(
    images: Path, out: Path, *, annotations: Path | None = None, format_: str = "coco", classes: Sequence[str] = ()
) -> Imported:
    """Write `pool.json`, all images of a folder with the labels that exist, and `labeled.txt`, the ids of those.

    An image counts as labeled when the format says that it is finished: COCO lists it, VOC and YOLO have its file,
    Label Studio has an annotation that is no skip, CVAT has a box on it or the tag `alloop_done`.

    Args:
        images: folder of the images, searched in depth.
        out: folder to write into; files that are there are not overwritten.
        annotations: what is labeled already.
        format_: of the annotations.
        classes: names, in order, in addition to those of the annotations.

    Raises:
        DataError: no images, a labeled image that is not in the folder, files that exist.
        ConfigError: no classes at all, or an unknown format.
    """
    pool, listed = out / "pool.json", out / "labeled.txt"
    _refuse_existing((pool, listed))
    paths = _image_files(images)
    labels = _read_labels(annotations, format_) if annotations else Labels()
    matches = _matches(labels, paths, images, annotations)
    listing = _listing(paths, images, matches, labels.largest_id)
    _refuse_other_sizes(labels, listing)
    records = Records(listing, _categories(labels.categories, classes), list(labels.boxes))
    validate(records, str(annotations or images))
    atomic_write(pool, write_coco(records))
    labeled_ids = sorted({image.image_id for image in labels.images})
    if labeled_ids:
        atomic_write(listed, "".join(f"{image_id}\n" for image_id in labeled_ids).encode())
    labeled = listed if labeled_ids else None
    return Imported(pool, labeled, len(listing), len(labeled_ids), len(labels.boxes))


def _refuse_existing(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists():
            msg = f"{path}: exists already; give another --out, nothing is overwritten"
            raise DataError(msg)


def _image_files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        msg = f"{folder}: expected a folder with images, found none"
        raise DataError(msg)
    return paths


def _read_labels(annotations: Path, format_: str) -> Labels:
    reader = annotation_format(format_, "--from")
    records = reader.read(annotations)
    finished = reader.finished(annotations, records)
    return Labels(
        images=tuple(image for image in records.images if image.image_id in finished),
        boxes=tuple(box for box in records.annotations if box.image_id in finished),
        categories=tuple(records.categories),
        largest_id=max((image.image_id for image in records.images), default=0),
    )


def _matches(labels: Labels, paths: Sequence[Path], root: Path, annotations: Path | None) -> dict[Path, ImageId]:
    """Return the id of each file whose image is labeled."""
    names = _names(paths, root)
    files = {image.image_id: _match(image, names, annotations) for image in labels.images}
    return {path: image_id for image_id, path in files.items()}


def _names(paths: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return the files by the names that annotations may give them.

    A file may be named with its folders, without them, and without its suffix, the latter two where only one file
    has that name.
    """
    candidates: dict[str, set[Path]] = {}
    for path in paths:
        relative = path.relative_to(root)
        for name in {relative.stem, relative.name, relative.as_posix()}:
            candidates.setdefault(name, set()).add(path)
    whole = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: next(iter(files)) for name, files in candidates.items() if len(files) == 1} | whole


def _match(image: ImageRecord, names: Mapping[str, Path], annotations: Path | None) -> Path:
    short = last_part(image.file_name)
    for name in (image.file_name, short, _UPLOADED.sub("", short), Path(short).stem):
        if name in names:
            return names[name]
    where = f"{annotations}: image {image.image_id} ({image.file_name})"
    msg = f"{where} is not in the image folder; restore or rename it"
    raise DataError(msg)


def _listing(paths: Sequence[Path], root: Path, matches: Mapping[Path, ImageId], largest_id: int) -> list[ImageRecord]:
    """Return all images of the folder; those that are not labeled get ids beyond the largest known one."""
    images: list[ImageRecord] = []
    for path in paths:
        if path not in matches:
            largest_id += 1
        image_id = matches.get(path, ImageId(largest_id))
        images.append(ImageRecord(image_id, path.relative_to(root).as_posix(), *image_size(path)))
    return images


def _categories(known: Sequence[Category], names: Sequence[str]) -> list[Category]:
    classes = ClassIds(known, first=0)
    for name in names:
        classes.id_of(name)
    if not classes.categories:
        msg = "--classes: nothing names the classes; give them, comma-separated"
        raise ConfigError(msg)
    return classes.categories


def _refuse_other_sizes(labels: Labels, listing: Collection[ImageRecord]) -> None:
    by_id = {image.image_id: image for image in listing}
    for image in labels.images:
        now = by_id.get(image.image_id)
        if now and (now.width, now.height) != (image.width, image.height):
            msg = (
                f"image {image.image_id} ({image.file_name}): labeled on {image.width} x {image.height} pixels, "
                f"the file shows {now.width} x {now.height}; its boxes cannot be trusted"
            )
            raise DataError(msg)
