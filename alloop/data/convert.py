"""From any annotation format to any other."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from alloop.data.data_set import DataSet
from alloop.data.formats.format import Format
from alloop.data.formats.table import annotation_format
from alloop.data.image_index import index_of_folder
from alloop.data.reading import read_annotations, with_file_names
from alloop.data.records import Records
from alloop.data.summary import note_lines
from alloop.data.validation import refuse_unusable, validate
from alloop.errors import DataError
from alloop.files import atomic_write
from alloop.geometry.boxes import MIN_SIDE


def convert_annotations(source: Path, target: Path, from_: str, to: str, images: Path | None = None) -> list[str]:
    """Read, validate, write, read again and compare.

    Args:
        source: file or folder to read.
        target: file or folder to write; it must not exist yet.
        from_: name of the format of `source`.
        to: name of the format of `target`.
        images: folder of the images, where sizes are missing or names are not those of the files.

    Returns:
        a line that counts what was written, and a line for each rule by which `source` was read leniently.

    Raises:
        DataError: `source` is unusable, `target` exists or cannot hold `source` without loss.
        ConfigError: an unknown format.
    """
    reader, writer = annotation_format(from_, "--from"), annotation_format(to, "--to")
    if target.exists():
        msg = f"{target}: exists already; give a new name, nothing is overwritten"
        raise DataError(msg)
    index = index_of_folder(images) if images else None
    records = read_annotations(source, reader, index)
    if index is not None:
        refuse_unusable(records, str(source))
        records = with_file_names(records, index, str(source))
    dataset = validate(records, str(source))
    written = write_checked(records, dataset, writer, target)
    lines = [f"noted: {line}" for line in note_lines(dataset)]
    lost = len(records.groups) - len(written.groups)
    left = [f"noted: the groups of {lost} images stay behind, {to} has no place for them"] if lost else []
    return [_summary(dataset, target, "" if writer.keeps_masks else to), *lines, *left]


def write_checked(records: Records, dataset: DataSet, writer: Format, target: Path) -> DataSet:
    """Write records, read them again and compare; return what was read again, validated.

    Args:
        records: what is written.
        dataset: the same, validated.
        writer: the format.
        target: the file or folder to write; it does not exist yet.

    Raises:
        DataError: the format cannot hold the records without loss, or a file name leads out of `target`.
    """
    files = writer.files(records, target)
    _refuse_outside(files, dataset.name, target)
    for path, data in files.items():
        atomic_write(path, data)
    written = validate(writer.read(target), str(target))
    _require_same(written, dataset, target)
    return written


def _refuse_outside(files: Iterable[Path], source: str, target: Path) -> None:
    for path in files:
        if not path.resolve().is_relative_to(target.resolve()) and path != target:
            msg = f"{path}: a file name of {source} leads out of {target}; rename that image"
            raise DataError(msg)


def _require_same(written: DataSet, dataset: DataSet, target: Path) -> None:
    """Check that what was written says the same: images, unlabeled images, boxes and their flags by class."""
    if (written.boxes, len(written.images)) != (dataset.boxes, len(dataset.images)):
        counts = f"{dataset.boxes} in {len(dataset.images)}"
        msg = f"{target}: holds {written.boxes} boxes in {len(written.images)} images instead of {counts}"
        raise DataError(msg)
    expected, found = _contents(dataset), _contents(written)
    if expected != found:
        key = next(key for key in expected if expected[key] != found[key])
        msg = f"{target}: holds other {key} than were read: {found[key]} instead of {expected[key]}"
        raise DataError(msg)


def _contents(dataset: DataSet) -> dict[str, object]:
    truths = dataset.annotations
    crowds = Counter(dataset.class_names[label] for label in truths.labels[truths.crowd])
    wide = (truths.boxes[:, 2:] - truths.boxes[:, :2] >= MIN_SIDE + 1).all(axis=1)  # rounding does not change which
    ignored = Counter(dataset.class_names[label] for label in truths.labels[wide & ~truths.crowd & ~truths.trainable])
    return {
        "unlabeled images": len(dataset.unlabeled),
        "classes": dataset.class_names,
        "boxes of the classes": dataset.class_counts(),
        "crowds of the classes": dict(crowds),
        "boxes marked ignore": dict(ignored),
    }


def _summary(dataset: DataSet, target: Path, without_masks: str) -> str:
    """Count what was written; `without_masks` names the format when it cannot hold masks."""
    truths = dataset.annotations  # an unlabeled image has no box
    crowd = int(truths.crowd.sum())
    empty = int((truths.counts == 0).sum()) - len(dataset.unlabeled)
    masks = sum(mask is not None for mask in truths.masks)
    lost = f"; {masks} masks stay behind, {without_masks} holds boxes" if masks and without_masks else ""
    unlabeled = f", {len(dataset.unlabeled)} not labeled" if dataset.unlabeled else ""
    images = f"{len(dataset.images)} images ({empty} empty{unlabeled})"
    return f"{target}: {images}, {dataset.boxes} boxes ({crowd} crowd){lost}"
