"""What `check-data` prints: counts, findings, images that cannot be read."""

from collections import Counter
from pathlib import Path

from alloop.data.formats import cvat, label_studio
from alloop.data.images import FolderImages
from alloop.data.records import DataSet, Records
from alloop.errors import DataError

MOST = 200  # findings printed


def guess_format(path: Path) -> str:
    """By what a folder holds (labels/ is YOLO), by suffix (.xml and .zip are CVAT), else COCO."""
    if path.suffix in (".xml", ".zip") or (path / cvat.NAME).is_file():
        return "cvat"
    if (path / label_studio.NAME).is_file():
        return "label_studio"
    if path.is_dir():
        return "yolo" if (path / "labels").is_dir() or "labels" in path.parts else "voc"
    return "voc" if path.suffix == ".txt" else "coco"


def count_lines(records: Records) -> list[str]:
    """Images, boxes, crowd, empty images, boxes per image and per class."""
    per_class = Counter(box.category_id for box in records.annotations)
    per_image = Counter(box.image_id for box in records.annotations)
    counts = sorted(per_image.get(image.id, 0) for image in records.images)
    total, images = len(records.annotations), len(records.images)
    lines = [
        f"images {images}, boxes {total}, classes {len(records.categories)}",
        f"crowd {sum(box.iscrowd for box in records.annotations)}, images without a box {counts.count(0)}",
    ]
    if counts:
        middle, mean = counts[images // 2], total / images
        lines.append(f"boxes per image: least {counts[0]}, median {middle}, most {counts[-1]}, mean {mean:.2f}")
    ordered = sorted(records.categories, key=lambda category: -per_class[category.id])
    return [*lines, *(f"  {c.name} (id {c.id}): {per_class[c.id]}" for c in ordered)]


def problem_lines(findings: list[str]) -> list[str]:
    """A count by verdict, then the first findings."""
    verdicts = Counter(finding.partition(":")[0] for finding in findings)
    head = "problems: " + (", ".join(f"{count} {name}" for name, count in verdicts.items()) or "none")
    more = [f"  and {len(findings) - MOST} more"] if len(findings) > MOST else []
    return [head, *(f"  {finding}" for finding in findings[:MOST]), *more]


def verdict_line(dataset: DataSet) -> str:
    """What becomes of the boxes of a usable data set."""
    trained = sum(int(truth.trainable.sum()) for truth in dataset.annotations.values())
    crowd = sum(int(truth.crowd.sum()) for truth in dataset.annotations.values())
    clipped = sum(problem.verdict == "clipped" for problem in dataset.problems)
    rest = dataset.boxes - trained - crowd
    return (
        f"usable: yes; all {dataset.boxes} boxes are paid for, {trained} are trained on ({clipped} of them clipped), "
        f"{crowd} are crowd, {rest} are skipped"
    )


def unreadable_images(dataset: DataSet, root: Path) -> list[str]:
    """Decode every image; a finding for each that is missing, damaged or of another size."""
    source, found = FolderImages(root, dataset.images), []
    for image_id in dataset.images:
        try:
            source.read(image_id)
        except DataError as error:
            found.append(f"refused: {error}")
    return found
