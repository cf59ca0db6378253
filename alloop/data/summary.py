"""What is reported about data: counts, findings, images that cannot be read, and what a run warns about."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from alloop.data.data_set import DataSet
from alloop.data.images import FolderImages
from alloop.data.records import Records
from alloop.data.threads import in_order
from alloop.errors import DataError
from alloop.geometry.boxes import MIN_SIDE, wide_enough
from alloop.values import ImageId

LISTED = 200  # findings that are printed
NOTED = 5  # notes of a split that a run warns of


def count_lines(records: Records) -> list[str]:
    """Count images, boxes, crowd boxes, empty and unlabeled images, boxes per labeled image and boxes per class."""
    per_class, per_image, crowd = Counter[int](), Counter[int](), 0
    for box in records.annotations:
        per_class[box.category_id] += 1
        per_image[box.image_id] += 1
        crowd += box.iscrowd
    labeled = [image.image_id for image in records.images if image.image_id not in records.unlabeled]
    counts = sorted(per_image.get(image_id, 0) for image_id in labeled)
    unlabeled = f", not labeled {len(records.images) - len(labeled)}" if records.unlabeled else ""
    ordered = sorted(records.categories, key=lambda category: -per_class[category.id])
    return [
        f"images {len(records.images)}, boxes {len(records.annotations)}, classes {len(records.categories)}",
        f"crowd {crowd}, images without a box {counts.count(0)}{unlabeled}",
        *_per_image_line(counts, len(records.annotations)),
        *(f"  {category.name} (id {category.id}): {per_class[category.id]}" for category in ordered),
    ]


def _per_image_line(counts: Sequence[int], boxes: int) -> list[str]:
    """Describe sorted numbers of boxes per image; nothing without an image."""
    if not counts:
        return []
    images = len(counts)
    middle, mean = counts[images // 2], boxes / images
    return [f"boxes per image: least {counts[0]}, median {middle}, most {counts[-1]}, mean {mean:.2f}"]


def problem_lines(findings: Sequence[str]) -> list[str]:
    """Count the findings by verdict, then list the first ones."""
    verdicts = Counter(finding.partition(":")[0] for finding in findings)
    head = "problems: " + (", ".join(f"{count} {name}" for name, count in verdicts.items()) or "none")
    more = [f"  and {len(findings) - LISTED} more"] if len(findings) > LISTED else []
    return [head, *(f"  {finding}" for finding in findings[:LISTED]), *more]


def verdict_line(dataset: DataSet) -> str:
    """Say what is done with the boxes of a usable data set."""
    trained, crowd = int(dataset.annotations.trainable.sum()), int(dataset.annotations.crowd.sum())
    clipped = sum(problem.verdict == "clipped" for problem in dataset.problems)
    rest = dataset.boxes - trained - crowd
    return (
        f"usable: yes; all {dataset.boxes} boxes are paid for, {trained} are trained on ({clipped} of them clipped), "
        f"{crowd} are crowd, {rest} are skipped"
    )


def note_lines(dataset: DataSet) -> list[str]:
    """Return the first notes about a data set, one sentence each; nothing where it was read as it stands."""
    notes = [f"{problem.where}: {problem.reason}" for problem in dataset.problems if problem.verdict == "noted"]
    more = len(notes) - NOTED
    return [*notes[:NOTED], *([f"{dataset.name}: {more} more notes; `alloop check-data` lists them"] * (more > 0))]


def unused_classes(dataset: DataSet, name: str) -> list[str]:
    """Say which classes no box has; nothing where all are used.

    Args:
        dataset: the data set.
        name: how to call it in the sentence.
    """
    unused = [text for text, count in zip(dataset.class_names, dataset.class_counts(), strict=True) if not count]
    if not unused or not dataset.boxes:
        return []
    verb = "class has" if len(unused) == 1 else "classes have"
    return [f"{len(unused)} {verb} no box in {name}: {', '.join(unused)}"]


def untrained_boxes(dataset: DataSet, name: str = "the pool") -> list[str]:
    """Say how many boxes are paid for and not trained on, and why; nothing where there are none.

    Args:
        dataset: the data set.
        name: how to call it in the sentence.
    """
    truths = dataset.annotations
    rest = ~truths.trainable & ~truths.crowd
    small, crowd = int((rest & ~wide_enough(truths.boxes)).sum()), int(truths.crowd.sum())
    ignored = int(rest.sum()) - small
    if not small + crowd + ignored:
        return []
    count = f"{small + crowd + ignored} of {dataset.boxes} boxes of {name} are paid for and not trained on"
    return [f"{count}: less than {MIN_SIDE:g} px wide or high {small}; crowd {crowd}; ignore {ignored}"]


def image_findings(dataset: DataSet, folder: Path) -> list[str]:
    """Decode every image; return a finding for each that is missing, damaged or of another size.

    A last finding counts the images whose bits were inferred, see `alloop.data.bit_depth`.
    """
    source = FolderImages(folder, dataset.images)

    def checked(image_id: ImageId) -> DataError | int | None:
        """Return what is wrong with an image, else its inferred bits if any."""
        try:
            return source.read_with_depth(image_id)[1]
        except DataError as error:
            return error

    results = list(in_order(checked, dataset.images))
    findings = [f"refused: {result}" for result in results if isinstance(result, DataError)]
    depths = Counter(result for result in results if isinstance(result, int))
    return [*findings, *_depth_findings(depths, len(dataset.images))]


def _depth_findings(depths: Counter[int], images: int) -> list[str]:
    if not depths:
        return []
    each = ", ".join(f"{bits} bits {count}" for bits, count in sorted(depths.items()))
    where = f"{sum(depths.values())} of {images} images use fewer bits than their files have room for"
    return [f"noted: {where}: {each}; their values are scaled by these bits, which no file states"]
