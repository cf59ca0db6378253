"""What `alloop split` prints: boxes and images of each class in each split, and what is missing in one."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from alloop.data.data_set import DataSet
from alloop.data.split_counts import Counts
from alloop.data.split_files import FileSplit
from alloop.data.summary import note_lines
from alloop.tables import Table

EMPTY = "no object"
SHOWN = 10  # classes that a line names


def split_blocks(split: FileSplit) -> list[str | Table]:
    """Return both tables, the notes and lines below them, and the block of a config that uses the splits."""
    boxes, images = split_tables(split)
    config = yaml.safe_dump(
        dict(split.config), sort_keys=False, default_flow_style=None, allow_unicode=True, width=1000
    )
    notes = [f"noted: {line}" for line in note_lines(split.dataset)]
    use = ["In a config, relative to its folder:", config.rstrip()]
    return [boxes, "", images, "", *notes, *split_lines(split), *use]


def split_tables(split: FileSplit) -> list[Table]:
    """Return a table of boxes and one of images: a row for each class, a column for everything and for each split."""
    names, columns = split.dataset.class_names, ["all", *split.counts]
    every = [split.whole, *split.counts.values()]
    boxes = [dict(zip(names, own.boxes, strict=True)) | {"all classes": sum(own.boxes)} for own in every]
    images = [
        dict(zip(names, own.images, strict=True)) | {EMPTY: own.empty, "all, annotated": own.labeled} for own in every
    ]
    return [Table(["boxes", *columns], _rows(boxes)), Table(["images with", *columns], _rows(images))]


def _rows(counts: Sequence[Mapping[str, int]]) -> list[list[str]]:
    whole, *parts = counts
    return [
        [name, str(count), *(f"{own[name]} ({own[name] / count:6.1%})" if count else "0" for own in parts)]
        for name, count in whole.items()
        if count or name != EMPTY
    ]


def split_lines(split: FileSplit) -> list[str]:
    """Return a line for groups, for unlabeled images, for lost masks, and for the classes that each split lacks."""
    masks = [f"{split.lost_masks} masks stay behind, the written format holds boxes"] if split.lost_masks else []
    return [*_group_lines(split.dataset), *_unlabeled_lines(split), *masks, *_missing_lines(split)]


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
    found = split.whole.groups
    what = "groups" if split.dataset.groups else "images"
    lines = []
    for name, part in split.counts.items():
        lacking = [label for label, own in enumerate(part.boxes) if found[label] and not own]
        if lacking:
            listed = ", ".join(f"{split.dataset.class_names[label]} ({found[label]})" for label in lacking[:SHOWN])
            more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
            count = "1 class has" if len(lacking) == 1 else f"{len(lacking)} classes have"
            lines.append(f"{count} no box in {name}, because few {what} have it: {listed}{more}")
    return lines


def split_tree(split: FileSplit) -> dict[str, Any]:
    """Return the same for JSON."""
    return {
        "all": _tree(split.dataset, split.whole),
        "splits": {name: _tree(part, split.counts[name]) for name, part in split.splits.items()},
        "groups": len(set(split.dataset.groups.values())),
        "left_out": split.left_out,
        "notes": [*note_lines(split.dataset), *split_lines(split)],
        "config": split.config,
    }


def _tree(dataset: DataSet, counts: Counts) -> dict[str, Any]:
    classes = zip(dataset.class_names, counts.boxes, counts.images, strict=True)
    return {
        "images": len(dataset.images),
        "unlabeled": len(dataset.unlabeled),
        "empty": counts.empty,
        "boxes": sum(counts.boxes),
        "classes": {name: {"boxes": boxes, "images": images} for name, boxes, images in classes},
    }
