"""Boxes in another unit are found out as a whole; a small or odd box alone never is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.records import Box, Category, Records
from alloop.data.units import LEAST, unit_problem
from alloop.data.validation import validate
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

IMAGE = ImageRecord(ImageId(1), "a.jpg", 200, 100)


def problem(*bboxes):
    return unit_problem([Box(k, ImageId(1), 0, bbox) for k, bbox in enumerate(bboxes)], {ImageId(1): IMAGE})


SIDES = st.tuples(st.integers(0, 198), st.integers(0, 98), st.integers(2, 100), st.integers(2, 50))


def inside(sides):
    x, y, width, height = sides
    return (float(x), float(y), float(min(width, 200 - x)), float(min(height, 100 - y)))


@given(st.lists(SIDES.map(inside), min_size=1, max_size=20))
def test_pixels_pass_and_the_same_boxes_as_fractions_do_not(bboxes):
    assert problem(*bboxes) == ""
    fractions = [(x / 200, y / 100, w / 200, h / 100) for x, y, w, h in bboxes]
    whole = all(not number % 1 for bbox in fractions for number in bbox)
    assert ("normalized" in problem(*fractions)) == (not whole)


@given(st.lists(SIDES.map(inside), min_size=LEAST, max_size=20))
def test_the_same_boxes_as_corners_are_refused_where_most_reach_over_the_edge(bboxes):
    corners = [(x, y, x + w, y + h) for x, y, w, h in bboxes]
    over = sum(x1 + x2 > 200 or y1 + y2 > 100 for x1, y1, x2, y2 in corners)
    assert ("corners" in problem(*corners)) == (2 * over > len(corners))


def test_one_box_in_pixels_or_none_at_all_says_nothing():
    assert problem() == ""
    assert problem((0.1, 0.1, 0.5, 0.5), (10.0, 10.0, 20.0, 20.0)) == ""
    assert problem((0.0, 0.0, 1.0, 1.0)) == "", "one pixel in the corner"
    assert problem(*[(150.0, 50.0, 190.0, 90.0)] * (LEAST - 1)) == "", "few boxes may reach over the edge"


def test_the_whole_file_is_refused_with_what_to_do():
    boxes = [Box(k, ImageId(1), 0, (0.1 * k, 0.2, 0.3, 0.25)) for k in range(4)]
    with pytest.raises(DataError, match=r"x\.json: annotations: all 4 boxes lie between 0 and 1.*multiply"):
        validate(Records([IMAGE], [Category(0, "cat")], boxes), "x.json")
