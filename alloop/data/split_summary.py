"""What `alloop split` prints: boxes and images of each class in each split, and what is missing in one."""

from collections.abc import Mapping, Sequence
from typing import Any

from alloop.data.data_set import DataSet
from alloop.data.split_files import FileSplit
from alloop.data.summary import note_lines
from alloop.tables import Table
from alloop.values import ImageId

EMPTY = "no object"
SHOWN = 10  # classes that a line names


def split_tables(split: FileSplit) -> list[Table]:
    """Return a table of boxes and one of images: a row for each class, a column for everything and for each split."""
    whole, parts = split.dataset, split.splits
    columns = ["all", *parts]
    boxes = [_box_counts(dataset) for dataset in (whole, *parts.values())]
    images = [_image_counts(dataset) for dataset in (whole, *parts.values())]
    return [Table(["boxes", *columns], _rows(boxes)), Table(["images with", *columns], _rows(images))]


def _rows(counts: Sequence[Mapping[str, int]]) -> list[list[str]]:
    whole, *parts = counts
    return [
        [name, str(count), *(f"{own[name]} ({own[name] / count:6.1%})" if count else "0" for own in parts)]
        for name, count in whole.items()
        if count or name != EMPTY
    ]


def _box_counts(dataset: DataSet) -> dict[str, int]:
    return dict(zip(dataset.class_names, dataset.class_counts(), strict=True)) | {"all classes": dataset.boxes}


def _image_counts(dataset: DataSet) -> dict[str, int]:
    labeled = [image_id for image_id in dataset.images if image_id not in dataset.unlabeled]
    empty = sum(not len(dataset.annotations[image_id]) for image_id in labeled)
    counts = dict(zip(dataset.class_names, dataset.class_images(), strict=True))
    return counts | {EMPTY: empty, "all, annotated": len(labeled)}


def split_lines(split: FileSplit) -> list[str]:
    """Return a line for groups, for unlabeled images, and for the classes that each split lacks."""
    return [*_group_lines(split.dataset), *_unlabeled_lines(split), *_missing_lines(split)]


def _group_lines(dataset: DataSet) -> list[str]:
    sizes: dict[str, int] = {}
    for group in dataset.groups.values():
        sizes[group] = sizes.get(group, 0) + 1
    if not sizes:
        return []
    largest = max(sizes, key=lambda group: (sizes[group], group))
    share = sizes[largest] / len(dataset.images)
    return [f"{len(sizes)} groups, none in two splits; the largest, {largest!r}, has {share:.1%} of the images"]


def _unlabeled_lines(split: FileSplit) -> list[str]:
    total = len(split.dataset.unlabeled)
    if not total:
        return []
    where = f"{total - split.left_out} are in train"
    left = f", {split.left_out} are left out: they would have to be in another split" if split.left_out else ""
    return [f"{total} images are not labeled: {where}{left}"]


def _missing_lines(split: FileSplit) -> list[str]:
    found = _groups_of_classes(split.dataset)
    what = "groups" if split.dataset.groups else "images"
    lines = []
    for name, part in split.splits.items():
        lacking = [label for label, own in enumerate(part.class_counts()) if found[label] and not own]
        if lacking:
            listed = ", ".join(f"{part.class_names[label]} ({found[label]})" for label in lacking[:SHOWN])
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            count = "1 class has" if len(lacking) == 1 else f"{len(lacking)} classes have"
            lines.append(f"{count} no box in {name}, because few {what} have it: {listed}{more}")
    return lines


def _groups_of_classes(dataset: DataSet) -> list[int]:
    """Return the number of groups, or of images where there are none, that have each class."""
    found: list[set[str | ImageId]] = [set() for _ in dataset.class_names]
    for image_id, truth in dataset.annotations.items():
        for label in set(truth.labels.tolist()):
            found[label].add(dataset.groups.get(image_id, image_id))
    return [len(groups) for groups in found]


def split_tree(split: FileSplit) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "all": _tree(split.dataset),
        "splits": {name: _tree(part) for name, part in split.splits.items()},
        "groups": len(set(split.dataset.groups.values())),
        "left_out": split.left_out,
        "notes": [*note_lines(split.dataset), *split_lines(split)],
        "config": split.config,
    }


def _tree(dataset: DataSet) -> dict[str, Any]:
    classes = zip(dataset.class_names, dataset.class_counts(), dataset.class_images(), strict=True)
    return {
        "images": len(dataset.images),
        "unlabeled": len(dataset.unlabeled),
        "empty": _image_counts(dataset)[EMPTY],
        "boxes": dataset.boxes,
        "classes": {name: {"boxes": boxes, "images": images} for name, boxes, images in classes},
    }
