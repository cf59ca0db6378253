"""From any annotation format to any other."""

from collections.abc import Iterable
from pathlib import Path

from alloop.data.data_set import DataSet
from alloop.data.formats.table import annotation_format
from alloop.data.validation import validate
from alloop.errors import DataError
from alloop.files import atomic_write


def convert_annotations(source: Path, target: Path, from_: str, to: str) -> str:
    """Read, validate, write, read again and compare.

    Args:
        source: file or folder to read.
        target: file or folder to write; it must not exist yet.
        from_: name of the format of `source`.
        to: name of the format of `target`.

    Returns:
        one line that counts what was written.

    Raises:
        DataError: `source` is unusable, `target` exists or cannot hold `source` without loss.
        ConfigError: an unknown format.
    """
    reader, writer = annotation_format(from_, "--from"), annotation_format(to, "--to")
    if target.exists():
        msg = f"{target}: exists already; give a new name, nothing is overwritten"
        raise DataError(msg)
    records = reader.read(source)
    dataset = validate(records, str(source))
    files = writer.files(records, target)
    _refuse_outside(files, source, target)
    for path, data in files.items():
        atomic_write(path, data)
    _require_same(validate(writer.read(target), str(target)), dataset, target)
    return _summary(dataset, target, "" if writer.keeps_masks else to)


def _refuse_outside(files: Iterable[Path], source: Path, target: Path) -> None:
    for path in files:
        if not path.resolve().is_relative_to(target.resolve()) and path != target:
            msg = f"{path}: a file name of {source} leads out of {target}; rename that image"
            raise DataError(msg)


def _require_same(written: DataSet, dataset: DataSet, target: Path) -> None:
    if (written.boxes, len(written.images)) != (dataset.boxes, len(dataset.images)):
        expected = f"{dataset.boxes} in {len(dataset.images)}"
        msg = f"{target}: holds {written.boxes} boxes in {len(written.images)} images instead of {expected}"
        raise DataError(msg)


def _summary(dataset: DataSet, target: Path, without_masks: str) -> str:
    """Count what was written; `without_masks` names the format when it cannot hold masks."""
    annotations = dataset.annotations.values()
    crowd = sum(int(truth.crowd.sum()) for truth in annotations)
    empty = sum(not len(truth) for truth in annotations)
    masks = sum(mask is not None for truth in annotations for mask in truth.masks)
    lost = f"; {masks} masks stay behind, {without_masks} holds boxes" if masks and without_masks else ""
    return f"{target}: {len(dataset.images)} images ({empty} empty), {dataset.boxes} boxes ({crowd} crowd){lost}"
