"""A picture of the page: small, with its boxes where they are, and names that stay text."""

import base64
import io
import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from alloop.report.pictures import (
    LONGEST_NAME,
    MOST_LABELS,
    SIDE,
    Picture,
    PictureBox,
    counted_classes,
    shortened,
    thumbnail,
)

EVIL = '"><script>alert(1)</script>'


def picture(boxes, shape=(90, 300, 3), name="a.png"):
    return Picture(thumbnail(np.full(shape, 128, dtype=np.uint8)), tuple(boxes), name, ("a line",), "an image")


def rectangles(shown):
    """The boxes over a picture, without the dark ones behind them, as xyxy."""
    tree = ET.fromstring(str(escape(shown)).replace("<br>", "<br/>").replace('"><svg', '"/><svg'))
    found = [r for r in tree.iter("rect") if r.get("class") != "halo"]
    corners = [[float(r.get(key)) for key in ("x", "y", "width", "height")] for r in found]
    return tree, [[x, y, x + width, y + height] for x, y, width, height in corners]


@pytest.mark.parametrize("shape", [(90, 300, 3), (300, 90, 3), (10, 10, 3), (1, 2000, 3)])
def test_a_thumbnail_has_a_fixed_long_side_whatever_the_image(shape):
    small = thumbnail(np.zeros(shape, dtype=np.uint8))
    with Image.open(io.BytesIO(base64.b64decode(small.uri.partition(",")[2]))) as pixels:
        assert pixels.size == small.size
    assert max(small.size) == SIDE
    assert len(small.uri) < 2_000


def test_boxes_lie_where_they_are_in_the_image():
    tree, boxes = rectangles(picture([PictureBox((30, 30, 150, 60), "cat")]))
    scale = SIDE / 300
    assert boxes == [pytest.approx([30 * scale, 30 * scale, 150 * scale, 60 * scale], abs=0.11)]
    assert next(tree.iter("svg")).get("viewBox") == f"0 0 {SIDE} {round(90 * scale)}"
    assert next(tree.iter("title")).text == next(tree.iter("text")).text == "cat"


@pytest.mark.parametrize("corners", [(-50, -50, 900, 900), (900, 900, 950, 990), (60, 60, 20, 20), (5, 5, 5, 5)])
def test_boxes_never_leave_the_picture(corners):
    _, ((x1, y1, x2, y2),) = rectangles(picture([PictureBox(corners, "cat")]))
    assert 0 <= x1 <= x2 <= SIDE
    assert 0 <= y1 <= y2 <= SIDE * 90 / 300


def test_many_boxes_have_their_classes_at_the_pointer_alone():
    boxes = [PictureBox((k, k, k + 9, k + 9), f"class {k}") for k in range(MOST_LABELS + 1)]
    few, many = (rectangles(picture(some))[0] for some in (boxes[:-1], boxes))
    assert len(list(few.iter("text"))) == MOST_LABELS
    assert not list(many.iter("text"))
    assert [title.text for title in many.iter("title")] == [box.text for box in boxes]


def test_names_stay_text():
    shown = str(escape(picture([PictureBox((1, 1, 9, 9), EVIL, "true")], name=EVIL)))
    assert "<script" not in shown
    assert shown.count("alert(1)") >= 2


def test_long_paths_are_shortened_and_whole_at_the_pointer():
    name = "folder/" + "x" * 100 + ".jpg"
    assert shortened("folder/a.jpg") == "a.jpg"
    assert len(shortened(name)) == LONGEST_NAME + 1
    assert shortened(name).endswith("x.jpg")
    assert re.search('<b title="folder/x+.jpg">', str(escape(picture([], name=name))))


def test_the_most_frequent_classes_are_counted():
    boxes = [PictureBox((0, 0, 1, 1), name) for name in "abbccc"]
    assert counted_classes(boxes) == ("c: 3, b: 2, a: 1",)
    assert counted_classes([*boxes, *[PictureBox((0, 0, 1, 1), "d")] * 4]) == ("d: 4, c: 3, b: 2, …",)
    assert counted_classes([]) == ("no box",)
