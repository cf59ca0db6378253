"""The categories of a COCO file: blanks around names, and the groups that exporters write as if they were classes."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from alloop.data.notes import Notes
from alloop.data.records import Box, Category


class CocoCategory(msgspec.Struct, gc=False):
    """A category with the group that it belongs to, which may be anything."""

    id: int
    name: str
    supercategory: Any = None


def used_categories(categories: Sequence[CocoCategory], boxes: Iterable[Box], notes: Notes) -> list[Category]:
    """Return the classes, without the groups that an exporter wrote beside them.

    A category without a box is such a group where another category has its name, or where all others name it as
    their supercategory.
    """
    stripped = [msgspec.structs.replace(category, name=category.name.strip()) for category in categories]
    for before, after in zip(categories, stripped, strict=True):
        if before.name != after.name:
            notes.add("blanks around the name were removed", f"categories: id {before.id}, name {before.name!r}")
    groups = [category for category in stripped if _may_be_group(category, stripped)]
    if groups:
        used = {box.category_id for box in boxes}
        groups = [category for category in groups if category.id not in used]
    kept = [category for category in stripped if category not in groups]
    if not kept:  # every one of several equal categories is empty: the validation names them
        kept, groups = stripped, []
    for group in groups:
        rule = "it has no box, and it is the group of the other categories or repeats one; left out"
        notes.add(rule, f"categories: id {group.id}, name {group.name!r}")
    return [Category(category.id, category.name) for category in kept]


def _may_be_group(category: CocoCategory, categories: Sequence[CocoCategory]) -> bool:
    others = [other for other in categories if other is not category]
    is_repeated = any(other.name == category.name for other in others)
    return is_repeated or (bool(others) and all(other.supercategory == category.name for other in others))
