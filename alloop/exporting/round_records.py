"""From the ledger to annotation records: exactly what a round trained on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alloop.data.annotation_json import annotation_sha256
from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.paid_records import records_of, was_marked
from alloop.data.records import Category, Records
from alloop.data.same_contents import difference
from alloop.data.validation import validate
from alloop.errors import ConfigError, DamagedFileError
from alloop.exporting.pool_images import pool_images
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_sizes import Size, recorded_image_sizes
from alloop.ledger.labeled_images import LabeledImage, content_sha256, labeled_images
from alloop.ledger.store import Ledger
from alloop.query import boxed
from alloop.values import Annotations, ImageId, ImageRecord


@dataclass(frozen=True, slots=True)
class RoundLabels:
    """What a round trained on.

    Attributes:
        facts: of the run.
        images: the labeled images, by ascending id.
        records: the same with their boxes, as annotation files have them.
        dataset: the same, validated.
        content_sha256: the hash of all of it, as `alloop status` shows it.
    """

    facts: RunFacts
    images: Sequence[LabeledImage]
    records: Records
    dataset: DataSet
    content_sha256: str


def round_labels(ledger: Ledger, round_: int) -> RoundLabels:
    """Read what a round trained on.

    Raises:
        ConfigError: an older version recorded no class names.
        DamagedFileError: a stored annotation differs from its hash.
        DataError: nothing tells the size of an image.
    """
    facts, images, truths = ledger.facts(), labeled_images(ledger, round_), ledger.labeled(round_)
    if facts is None or facts.classes is None:
        msg = f"{ledger.folder}: the run recorded no names of classes, so its labels cannot be exported"
        raise ConfigError(msg)
    if facts.task != "detection":
        msg = f"{ledger.folder}: export writes boxes, and this run paid for labels of images; alloop ledger lists them"
        raise ConfigError(msg)
    for image in images:
        if annotation_sha256(truths[image.image_id]) != image.annotation_sha256:
            msg = f"{ledger.folder}: run.db: the stored annotation of image {image.image_id} differs from its hash"
            raise DamagedFileError(f"{msg}; restore run.db from a copy")
    sizes = recorded_image_sizes(ledger) or _sizes(facts, ledger, images)
    records = _records(facts, images, boxed(truths), sizes)
    dataset = validate(records, f"{ledger.folder}: round {round_}")
    _refuse_other_contents(dataset, boxed(truths), ledger)
    return RoundLabels(facts, images, records, dataset, content_sha256(facts.classes, images, sizes))


def _sizes(facts: RunFacts, ledger: Ledger, images: Sequence[LabeledImage]) -> dict[ImageId, Size]:
    pool = pool_images(facts, ledger.folder)
    return {image.image_id: pool.size(image) for image in images}


def _records(
    facts: RunFacts,
    images: Sequence[LabeledImage],
    truths: Mapping[ImageId, Annotations],
    sizes: Mapping[ImageId, Size],
) -> Records:
    """Return the records; ids of classes are those of the pool's file, or 1, 2, ... where nobody recorded them."""
    names = facts.classes or ()
    ids = facts.category_ids or tuple(range(1, len(names) + 1))
    classes = [Category(number, name) for number, name in zip(ids, names, strict=True)]
    listed = [ImageRecord(image.image_id, image.file_name, *sizes[image.image_id]) for image in images]
    return records_of(listed, truths, classes, was_marked)


def _refuse_other_contents(dataset: DataSet, truths: Mapping[ImageId, Annotations], ledger: Ledger) -> None:
    """Check that the records say exactly what the ledger holds."""
    booked = replace(dataset, annotations=GroupedAnnotations.of_mapping(truths))
    wrong = difference(booked, dataset, masks=True)
    if wrong:
        msg = f"{ledger.folder}: run.db holds labels that no file of annotations can hold: {wrong}; restore it"
        raise DamagedFileError(msg)
