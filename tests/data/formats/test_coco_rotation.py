"""A turned box is taken by its upright extent, and that is counted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.convert import convert_annotations
from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.errors import DataError
from tests.support.annotations import write_json


def tree(*rotations, bbox=(60, 90, 80, 20)):
    boxes = [
        {"id": k, "image_id": 1, "category_id": 1, "bbox": list(bbox), "attributes": {"occluded": False, "rotation": r}}
        for k, r in enumerate(rotations)
    ]
    images = [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 200}]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}


def test_a_quarter_turn_swaps_the_sides_about_the_centre(tmp_path):
    records = read_coco(write_json(tmp_path / "a.json", tree(0.0, 90.0, "270", None, 360)))
    boxes = [np.round(box.bbox, 6).tolist() for box in records.annotations]
    upright, turned = [60, 90, 80, 20], [90, 60, 20, 80]
    assert boxes == [upright, turned, turned, upright, upright]
    assert [records.annotations[row].bbox for row in range(5)] == [box.bbox for box in records.annotations]
    assert records.annotations[-1].bbox == records.annotations[4].bbox
    assert len(records.annotations[1:3]) == 2
    assert [(note.count, note.first) for note in records.notes] == [(2, "annotations: id 1")]


@given(st.floats(-720, 720), st.floats(5, 40), st.floats(5, 40))
def test_the_extent_is_that_of_the_four_turned_corners(tmp_path_factory, degrees, width, height):
    """The turn as a complex number, without the function that the reader uses."""
    path = tmp_path_factory.mktemp("x") / "a.json"
    records = read_coco(write_json(path, tree(degrees, bbox=(80, 70, width, height))))
    half = [complex(sx * width / 2, sy * height / 2) for sx in (1, -1) for sy in (1, -1)]
    corners = [point * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees))) for point in half]
    x, y, w, h = records.annotations[0].bbox
    assert np.allclose([w, h], [2 * max(c.real for c in corners), 2 * max(c.imag for c in corners)], atol=1e-6)
    assert np.allclose([x + w / 2, y + h / 2], [80 + width / 2, 70 + height / 2])


@pytest.mark.parametrize("rotation", ["left", [1], "nan"])
def test_a_turn_that_is_no_number_is_refused(tmp_path, rotation):
    with pytest.raises(DataError, match=r"a\.json: annotations: id 0: attributes\.rotation"):
        read_coco(write_json(tmp_path / "a.json", tree(rotation)))


def test_a_class_that_is_called_rotation_turns_nothing(tmp_path):
    whole = tree(0)
    whole["categories"][0]["name"] = "rotation"
    del whole["annotations"][0]["attributes"]
    records = read_coco(write_json(tmp_path / "a.json", whole))
    assert (records.annotations[0].bbox, records.notes) == ((60, 90, 80, 20), ())


def test_conversion_writes_the_extent_and_tells(tmp_path):
    path = write_json(tmp_path / "a.json", tree(90.0))
    lines = convert_annotations(path, tmp_path / "out.json", "coco", "coco")
    assert "turned by attributes.rotation" in lines[1]
    dataset = validate(read_coco(tmp_path / "out.json"), "out")
    assert np.allclose(dataset.annotations[1].boxes, [[90, 60, 110, 140]])
    assert dataset.problems == ()
