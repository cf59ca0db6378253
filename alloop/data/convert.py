"""From any annotation format to any other."""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from alloop.data.data_set import DataSet
from alloop.data.formats.format import Format
from alloop.data.formats.table import annotation_format
from alloop.data.image_index import index_of_folder
from alloop.data.reading import read_annotations, with_file_names
from alloop.data.records import Records
from alloop.data.same_contents import difference
from alloop.data.summary import note_lines
from alloop.data.validation import refuse_unusable, validate
from alloop.errors import DataError
from alloop.files import atomic_path, atomic_write, refuse_missing


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
        ConfigError: an unknown format, or `source` or `images` is not there.
    """
    reader, writer = annotation_format(from_, "--from"), annotation_format(to, "--to")
    if target.exists():
        msg = f"{target}: exists already; give a new name, nothing is overwritten"
        raise DataError(msg)
    if images:
        refuse_missing(images, "--images")
    index = index_of_folder(images) if images else None
    records = read_annotations(source, reader, index)
    if index is not None:
        refuse_unusable(records, str(source))
        records = with_file_names(records, index, str(source))
    dataset = validate(records, str(source))
    with atomic_path(target) as path:
        written = write_checked(records, dataset, writer, path, shown=target)
    lines = [f"noted: {line}" for line in note_lines(dataset)]
    lost = len(records.groups) - len(written.groups)
    left = [f"noted: the groups of {lost} images stay behind, {to} has no place for them"] if lost else []
    return [summary_of(dataset, target, "" if writer.keeps_masks else to), *lines, *left]


def write_checked(
    records: Records, dataset: DataSet, writer: Format, target: Path, *, shown: Path | None = None
) -> DataSet:
    """Write records, read them again and compare everything; return what was read again, validated.

    Write into an `atomic_path` or `atomic_folder`: what differs stays where it was written.

    Args:
        records: what is written.
        dataset: the same, validated.
        writer: the format.
        target: the file or folder to write; it does not exist yet.
        shown: what messages call the target; the target itself by default.

    Raises:
        DataError: what is read again differs, or a file name leads out of `target`.
    """
    files = writer.files(records, target)
    _refuse_outside(files, dataset.name, target, shown or target)
    for path, data in files.items():
        atomic_write(path, data)
    written = validate(writer.read(target), str(target))
    wrong = difference(dataset, written, masks=writer.keeps_masks)
    if wrong:
        msg = f"{shown or target}: the format does not keep what was read: {wrong}; nothing is written"
        raise DataError(msg)
    return written


def is_one_file(writer: Format, records: Records) -> bool:
    """Return whether a format holds records in one file, which is the target itself, or in a folder."""
    one = msgspec.structs.replace(records, images=[], annotations=[], unlabeled=frozenset())
    return (target := Path("target")) in writer.files(one, target)


def _refuse_outside(files: Iterable[Path], source: str, target: Path, shown: Path) -> None:
    for path in files:
        if not path.resolve().is_relative_to(target.resolve()) and path != target:
            name = os.path.relpath(path, target)
            msg = f"{name}: a file name of {source} leads out of {shown}; rename that image"
            raise DataError(msg)


def summary_of(dataset: DataSet, target: Path, without_masks: str) -> str:
    """Count what was written; `without_masks` names the format when it cannot hold masks."""
    truths = dataset.annotations  # an unlabeled image has no box
    crowd = int(truths.crowd.sum())
    empty = int((truths.counts == 0).sum()) - len(dataset.unlabeled)
    masks = sum(mask is not None for mask in truths.masks)
    lost = f"; {masks} masks stay behind, {without_masks} holds boxes" if masks and without_masks else ""
    unlabeled = f", {len(dataset.unlabeled)} not labeled" if dataset.unlabeled else ""
    images = f"{len(dataset.images)} images ({empty} empty{unlabeled})"
    return f"{target}: {images}, {dataset.boxes} boxes ({crowd} crowd){lost}"
