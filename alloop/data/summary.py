"""What `check-data` prints: counts, findings, images that cannot be read."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from alloop.data.data_set import DataSet
from alloop.data.images import FolderImages
from alloop.data.records import Records
from alloop.errors import DataError

LISTED = 200  # findings that are printed


def count_lines(records: Records) -> list[str]:
    """Count images, boxes, crowd boxes, empty images, boxes per image and boxes per class."""
    per_class = Counter(box.category_id for box in records.annotations)
    per_image = Counter(box.image_id for box in records.annotations)
    counts = sorted(per_image.get(image.image_id, 0) for image in records.images)
    ordered = sorted(records.categories, key=lambda category: -per_class[category.id])
    return [
        f"images {len(records.images)}, boxes {len(records.annotations)}, classes {len(records.categories)}",
        f"crowd {sum(box.iscrowd for box in records.annotations)}, images without a box {counts.count(0)}",
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
    trained = sum(int(truth.trainable.sum()) for truth in dataset.annotations.values())
    crowd = sum(int(truth.crowd.sum()) for truth in dataset.annotations.values())
    clipped = sum(problem.verdict == "clipped" for problem in dataset.problems)
    rest = dataset.boxes - trained - crowd
    return (
        f"usable: yes; all {dataset.boxes} boxes are paid for, {trained} are trained on ({clipped} of them clipped), "
        f"{crowd} are crowd, {rest} are skipped"
    )


def unreadable_images(dataset: DataSet, folder: Path) -> list[str]:
    """Decode every image and return a finding for each that is missing, damaged or of another size."""
    source, findings = FolderImages(folder, dataset.images), []
    for image_id in dataset.images:
        try:
            source.read(image_id)
        except DataError as error:
            findings.append(f"refused: {error}")
    return findings
