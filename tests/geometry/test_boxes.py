"""Boxes by hand: areas, overlaps, and the one conversion between corners and width and height."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.geometry.boxes import (
    area,
    box_scale,
    corners_from_xywh,
    extent_of_rotated,
    from_xywh,
    paired_iou,
    pairwise_iou,
    to_xywh,
    xywh_from_corners,
)

A = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [3, 3, 3, 9], [20, 20, 10, 10]], dtype=np.float32)


def test_area_is_zero_where_a_side_is_negative():
    assert area(A).tolist() == [100, 100, 0, 0]


def test_overlaps_by_hand():
    expected = [[1, 25 / 175, 0, 0], [25 / 175, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert np.allclose(pairwise_iou(A, A), expected)
    assert np.allclose(paired_iou(A, A[[1, 0, 2, 3]]), [25 / 175, 25 / 175, 0, 0])
    assert pairwise_iou(A[:0], A).shape == (0, 4)
    assert paired_iou(A[:0], A[:0]).shape == (0,)


def test_touching_boxes_do_not_overlap():
    touching = np.array([[10, 0, 20, 10]], dtype=np.float32)
    assert pairwise_iou(A[:1], touching).tolist() == [[0]]


NUMBER = st.floats(-1e4, 1e4, allow_nan=False)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(NUMBER, NUMBER, NUMBER, NUMBER), min_size=1, max_size=5))
def test_one_box_is_converted_like_a_row_of_an_array(rows):
    boxes = np.array(rows, dtype=np.float64)
    assert from_xywh(boxes).tolist() == [list(corners_from_xywh(row)) for row in rows]
    assert to_xywh(boxes).tolist() == [list(xywh_from_corners(row)) for row in rows]
    assert np.allclose(to_xywh(from_xywh(boxes)), boxes, atol=1e-9)


def test_corners_by_hand():
    assert corners_from_xywh((1, 2, 3, 4)) == (1, 2, 4, 6)
    assert xywh_from_corners((1, 2, 4, 6)) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("degrees", "centre", "expected"),
    [
        (0, (0, 0), (10, 20, 30, 60)),
        (90, (20, 40), (0, 30, 40, 50)),
        (180, (20, 40), (10, 20, 30, 60)),
        (90, (10, 20), (-30, 20, 10, 40)),
    ],
)
def test_a_turned_box_has_this_extent(degrees, centre, expected):
    """The turn is clockwise on the screen, where y points down."""
    assert np.allclose(extent_of_rotated((10, 20, 30, 60), math.radians(degrees), centre), expected)


def test_boxes_follow_their_image_when_it_is_resized():
    scale = box_scale((100, 50), (200, 25))
    assert (A[:1] * scale).tolist() == [[0, 0, 20, 5]]
