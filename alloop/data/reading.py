"""From an annotation file to records whose images, classes and file names are those that are really there.

The order is: `read_annotations`, the validation of what was read, `with_file_names`.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from alloop.config.blocks import GroupsConfig
from alloop.data.formats.format import NO_HINTS, Format, Hints
from alloop.data.image_index import ImageIndex
from alloop.data.notes import Notes
from alloop.data.records import Category, Records
from alloop.errors import DataError
from alloop.files import refuse_missing
from alloop.values import ImageRecord


def read_annotations(
    path: Path,
    format_: Format,
    images: ImageIndex | None = None,
    classes: Sequence[str] = (),
    groups: GroupsConfig | None = None,
) -> Records:
    """Return the records of a file or folder.

    Args:
        path: file or folder.
        format_: its format.
        images: the images that it belongs to, where they are known: sizes that the file lacks are theirs.
        classes: the names of the classes, in label order; those of the file by default.
        groups: how the group of an image is found; only a field is read here, see `alloop.data.groups`.

    Raises:
        ConfigError: it is not there.
        DataError: it cannot be read, or a box has a class that is not among `classes`.
    """
    refuse_missing(path)
    field = (groups and groups.field) or NO_HINTS.group_field
    records = format_.read(path, Hints(images, tuple(classes), field))
    return with_classes(records, classes, str(path)) if classes else records


def with_classes(records: Records, names: Sequence[str], name: str) -> Records:
    """Return records whose classes are `names`, in this order; a name that the records lack becomes a class.

    A class of the records that is not among the names is dropped where no box has it, and that is noted.

    Args:
        records: what was read.
        names: the classes in label order.
        name: how messages call the records.

    Raises:
        DataError: a box has a class that is not among the names.
    """
    known = {category.name: category for category in records.categories}
    own = [category.name for category in records.categories]
    if own == list(names):
        return records
    notes = Notes()
    _drop_unused(records, set(own) - set(names), name, notes)
    next_id = max((category.id for category in records.categories), default=-1) + 1
    new = {text: Category(next_id + row, text) for row, text in enumerate(t for t in names if t not in known)}
    if new and not records.classes_are_seen:
        notes.add(f"no class {', '.join(map(repr, new))} here; taken as classes without a box", f"{name}: categories")
    if [text for text in names if text in known] != [text for text in own if text in names]:
        notes.add("the classes stand in another order; they were matched by name", f"{name}: categories")
    categories = [known.get(text) or new[text] for text in names]
    return changed(records, notes, categories=categories, classes_are_seen=False)


def _drop_unused(records: Records, extra: set[str], name: str, notes: Notes) -> None:
    """Note the classes that are dropped; raise DataError where a box has one of them."""
    ids = {category.id: category.name for category in records.categories if category.name in extra}
    box = next((box for box in records.annotations if box.category_id in ids), None) if ids else None
    if box is not None:
        msg = (
            f"{name}: annotations: id {box.id}: class {ids[box.category_id]!r} is not among the classes; "
            "name all classes in data.classes, or mend the annotation"
        )
        raise DataError(msg)
    for text in sorted(extra):
        notes.add(f"class {text!r} has no box and is not among the classes; it is left out", f"{name}: categories")


def with_file_names(records: Records, images: ImageIndex, name: str) -> Records:
    """Return records whose images have the file names that they have in `images`; unknown images stay as they are.

    Args:
        records: what was read; their file names may lack folders or have more of them, see `image_index`.
        images: the images that are really there.
        name: how messages call the records.

    Raises:
        DataError: a name may mean several images, or two records mean one image.
    """
    notes = Notes()
    claimed: dict[str, ImageRecord] = {}
    found_images: list[ImageRecord] = []
    for image in records.images:
        found = images.find(image.file_name)
        if found is None:
            found_images.append(image)
            continue
        _claim(claimed, found.name, image, f"{name}: {images.place}")
        if found.difference:
            where = f"image {image.image_id}, {image.file_name!r} is {found.name!r}"
            notes.add(f"the image was found although {found.difference}", where)
        found_images.append(msgspec.structs.replace(image, file_name=found.name) if found.difference else image)
    return changed(records, notes, images=found_images)


def _claim(claimed: dict[str, ImageRecord], file_name: str, image: ImageRecord, where: str) -> None:
    if file_name in claimed:
        other = claimed[file_name]
        both = f"images {other.image_id} ({other.file_name!r}) and {image.image_id} ({image.file_name!r})"
        msg = f"{where}: {both} both mean the file {file_name!r}; keep one of them, or give both their whole names"
        raise DataError(msg)
    claimed[file_name] = image


def labeled_only(records: Records, name: str) -> Records:
    """Return records without the images that nobody has finished annotating; they are counted in a note."""
    notes = Notes()
    notes.add("not labeled; left out", f"{name}: {_first_unlabeled(records)}", len(records.unlabeled))
    images = [image for image in records.images if image.image_id not in records.unlabeled]
    return changed(records, notes, images=images, unlabeled=frozenset())


def unlabeled_as_empty(records: Records, name: str) -> Records:
    """Return records whose unlabeled images count as images without an object; they are counted in a note."""
    notes = Notes()
    where = f"{name}: {_first_unlabeled(records)}"
    notes.add("not labeled; taken as an image without an object", where, len(records.unlabeled))
    return changed(records, notes, unlabeled=frozenset())


def ignored_as_counted(records: Records, name: str) -> Records:
    """Return records whose boxes that are marked `ignore` count as all others; they are counted in a note."""
    notes = Notes()
    boxes = list(records.annotations)
    for row, box in enumerate(boxes):
        if box.ignore:
            boxes[row] = msgspec.structs.replace(box, ignore=0)
            notes.add("marked ignore; counted as any other box", f"{name}: id {box.id}")
    return changed(records, notes, annotations=boxes)


def _first_unlabeled(records: Records) -> str:
    first = next((image for image in records.images if image.image_id in records.unlabeled), None)
    return f"image {first.image_id} ({first.file_name})" if first else ""


def changed(records: Records, notes: Notes, **fields: object) -> Records:
    """Return records with other fields and with more notes."""
    return msgspec.structs.replace(records, notes=(*records.notes, *notes.listed()), **fields)
