"""A folder of images, some of them labeled or none, made into a pool that people can be asked about."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alloop.data.formats import cvat, label_studio
from alloop.data.formats.coco import write_coco
from alloop.data.formats.yolo import SUFFIXES
from alloop.data.images import image_size
from alloop.data.records import Category, Image, Records, validate
from alloop.data.splits import READERS
from alloop.errors import ConfigError, DataError
from alloop.files import atomic_write

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file


@dataclass(frozen=True, slots=True)
class Imported:
    """Where the pool and the list of labeled images were written, and how many there are."""

    pool: Path
    labeled: Path | None
    images: int
    labeled_images: int
    boxes: int


def import_project(
    images: Path, out: Path, *, annotations: Path | None = None, format_: str = "coco", classes: Sequence[str] = ()
) -> Imported:
    """Write `pool.json`, all images of the folder with the labels there are, and `labeled.txt`, the ids of those.

    An image counts as labeled when the annotations hold it: COCO lists it, VOC and YOLO have its file, Label
    Studio has an annotation that is no skip, CVAT has a box on it or the tag `alloop_done`.

    Args:
        images: folder of the images, searched in depth.
        out: folder to write into; files that are there are not overwritten.
        annotations: what is labeled already.
        format_: of the annotations.
        classes: names, in order, in addition to those of the annotations.

    Raises:
        DataError: no images, a labeled image that is not in the folder, files that exist.
        ConfigError: no classes at all.
    """
    pool, listed = out / "pool.json", out / "labeled.txt"
    for path in (pool, listed):
        if path.exists():
            msg = f"{path}: exists already; give another --out, nothing is overwritten"
            raise DataError(msg)
    paths = sorted(p for p in images.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        msg = f"{images}: expected a folder with images, found none"
        raise DataError(msg)
    read = READERS[format_](annotations) if annotations else Records([], [], [])
    done = _labeled(annotations, format_, read) if annotations else set()
    names = _names(paths, images)
    found = {image.id: _match(image, names, annotations) for image in read.images if image.id in done}
    of_path = {path: image_id for image_id, path in found.items()}
    free = max((image.id for image in read.images), default=0)
    records: list[Image] = []
    for path in paths:
        if path not in of_path:
            free += 1
        width, height = image_size(path)
        name = path.relative_to(images).as_posix()
        records.append(Image(of_path.get(path, free), name, width, height))
    categories = _categories(read.categories, classes)
    boxes = [box for box in read.annotations if box.image_id in done]
    _refuse_other_sizes({image.id: image for image in records}, read, done)
    made = Records(records, categories, boxes)
    validate(made, str(annotations or images))
    atomic_write(pool, write_coco(made))
    if done:
        atomic_write(listed, "".join(f"{image_id}\n" for image_id in sorted(done)).encode())
    return Imported(pool, listed if done else None, len(records), len(done), len(boxes))


def _labeled(path: Path, format_: str, read: Records) -> set[int]:
    """Ids of the images that somebody has finished."""
    if format_ == "label_studio":
        tasks = label_studio.read_tasks(path)
        return {
            image.id for image, task in zip(read.images, tasks, strict=True) if label_studio.latest(task) is not None
        }
    if format_ == "cvat":
        tags = cvat.cvat_tags(path)
        drawn = {box.image_id for box in read.annotations}
        return {
            image.id
            for image in read.images
            if cvat.SKIP not in tags[image.file_name] and (image.id in drawn or cvat.DONE in tags[image.file_name])
        }
    return {image.id for image in read.images}


def _names(paths: Sequence[Path], root: Path) -> dict[str, Path]:
    """Files by the names that annotations may call them: with folders, without, without suffix where that is clear."""
    called: dict[str, set[Path]] = {}
    for path in paths:
        relative = path.relative_to(root)
        for name in {relative.stem, relative.name, relative.as_posix()}:
            called.setdefault(name, set()).add(path)
    whole = {path.relative_to(root).as_posix(): path for path in paths}
    return {name: next(iter(found)) for name, found in called.items() if len(found) == 1} | whole


def _match(image: Image, names: Mapping[str, Path], annotations: Path | None) -> Path:
    short = image.file_name.rpartition("/")[2]
    for name in (image.file_name, short, _UPLOADED.sub("", short), Path(short).stem):
        if name in names:
            return names[name]
    msg = f"{annotations}: image {image.id} ({image.file_name}) is not in the image folder; restore or rename it"
    raise DataError(msg)


def _categories(known: Sequence[Category], classes: Sequence[str]) -> list[Category]:
    categories = list(known)
    free = max((category.id for category in categories), default=-1) + 1
    for name in classes:
        if name not in {category.name for category in categories}:
            categories.append(Category(free, name))
            free += 1
    if not categories:
        msg = "--classes: nothing names the classes; give them, comma-separated"
        raise ConfigError(msg)
    return categories


def _refuse_other_sizes(there: Mapping[int, Image], read: Records, done: set[int]) -> None:
    for image in read.images:
        now = there.get(image.id)
        if image.id in done and now and (now.width, now.height) != (image.width, image.height):
            msg = (
                f"image {image.id} ({image.file_name}): labeled on {image.width} x {image.height} pixels, "
                f"the file shows {now.width} x {now.height}; its boxes cannot be trusted"
            )
            raise DataError(msg)
