"""Groups that exporters write as classes are left out where they have no box; nothing else is."""

import pytest

from alloop.data.formats.coco_classes import CocoCategory, used_categories
from alloop.data.notes import Notes
from alloop.data.records import Box
from alloop.values import ImageId


def kept(categories, drawn=()):
    notes = Notes()
    boxes = [Box(k, ImageId(1), category_id, (1.0, 1.0, 5.0, 5.0)) for k, category_id in enumerate(drawn)]
    return [c.id for c in used_categories([CocoCategory(*c) for c in categories], boxes, notes)], notes.listed()


@pytest.mark.parametrize(
    ("categories", "drawn", "expected"),
    [
        ([(0, "fish", "none"), (1, "shark", "fish"), (2, "ray", "fish")], [1], [1, 2]),
        ([(0, "fish", "none"), (1, "shark", "fish"), (2, "ray", "fish")], [0], [0, 1, 2]),
        ([(0, "fish", "none"), (1, "shark", "fish"), (2, "ray", "sea")], [1], [0, 1, 2]),
        ([(0, "cat", "none"), (1, "cat", "cat")], [1], [1]),
        ([(0, "cat", "none"), (1, "cat ", "x"), (2, "dog", "x")], [1], [1, 2]),
        ([(0, "cat", "none"), (1, "cat", "cat")], [0, 1], [0, 1]),
        ([(0, "cat", None), (1, "cat", None)], [], [0, 1]),
        ([(0, "cat", "cat")], [], [0]),
        ([(0, "cat", None), (1, "dog", None)], [], [0, 1]),
        ([(0, "cat", {"odd": 1}), (1, "dog", 7)], [0], [0, 1]),
    ],
)
def test_only_an_empty_group_is_left_out_and_that_is_noted(categories, drawn, expected):
    ids, notes = kept(categories, drawn)
    assert ids == expected
    dropped = len(categories) - len(expected)
    assert sum(note.count for note in notes if "left out" in note.rule) == dropped
