"""The rules that annotation records must pass, and what is counted as paid."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data import validation
from alloop.data.formats.coco import read_coco
from alloop.data.records import Box, Category, Records
from alloop.data.validation import find_problems, validate
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import coco_tree, read_valid, write_json


def test_ids_may_be_sparse_and_zero_and_images_empty(tmp_path):
    data = read_valid(write_json(tmp_path / "a.json", coco_tree()))
    assert data.class_names == ("cat", "dog")
    assert data.annotations[7].labels.tolist() == [1, 0]
    assert data.annotations[7].boxes.tolist() == [[10, 20, 40, 60], [0, 0, 100, 80]]
    assert data.annotations[7].trainable.tolist() == [True, False]
    assert len(data.annotations[0]) == 0


@pytest.mark.parametrize(
    ("bbox", "verdict", "trainable"),
    [
        ([10, 10, 0, 5], "skipped", False),
        ([10, 10, -4, 5], "skipped", False),
        ([200, 10, 5, 5], "skipped", False),
        ([10, 10, 0.5, 20], "skipped", False),
        ([95, 10, 10, 10], "clipped", True),
        ([-3, -3, 10, 10], "clipped", True),
        ([1e308, 0, 1e308, 1], "skipped", False),
        ([99, 79, 1, 1], None, True),
    ],
)
def test_odd_boxes_are_paid_and_only_sound_ones_trained(tmp_path, bbox, verdict, trainable):
    box = {"id": 1, "image_id": 7, "category_id": 0, "bbox": bbox}
    records = read_coco(write_json(tmp_path / "a.json", coco_tree(annotations=[box])))
    assert [p.verdict for p in find_problems(records, "a")] == ([verdict] if verdict else [])
    data = validate(records, "a")
    assert data.boxes == 1
    assert data.annotations[7].trainable.tolist() == [trainable]
    assert np.isfinite(data.annotations[7].boxes).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"images": [*coco_tree()["images"], {"id": 7, "file_name": "c.png", "width": 5, "height": 5}]},
            ["id 7", "share this id"],
        ),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 0, "height": 5}]}, ["id 7", "0 x 5"]),
        ({"images": [{"file_name": "a.png", "width": 5, "height": 5}]}, ["images[0]", "id"]),
        ({"images": [{"id": [7], "file_name": "a.png", "width": 5, "height": 5}]}, ["images[0]", "int"]),
        ({"images": [{"id": 7, "file_name": "", "width": 5, "height": 5}]}, ["id 7", "file_name is empty"]),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 5, "height": 100_001}]}, ["id 7", "5 x 100001"]),
        ({"categories": [{"id": 0, "name": "cat"}, {"id": 90, "name": "cat"}]}, ["name 'cat'", "share this name"]),
        ({"categories": []}, ["categories"]),
        ({"categories": [{"id": 0, "name": "cat"}, {"id": 0, "name": "dog"}]}, ["categories: id 0"]),
        ({"annotations": [{"id": 3, "image_id": 99, "category_id": 0, "bbox": [1, 1, 5, 5]}]}, ["id 3", "image_id 99"]),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5]}]},
            ["id 3", "category_id 1"],
        ),
        (
            {"annotations": [{"id": {}, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5, 5]}]},
            ["annotations[0]", "id"],
        ),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 0}]}, ["id 3", "bbox"]),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5]}]}, ["id 3", "bbox"]),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5, 5], "iscrowd": 2}]},
            ["id 3", "iscrowd"],
        ),
    ],
)
def test_ambiguous_records_are_refused_with_file_id_and_reason(tmp_path, changes, words):
    with pytest.raises(DataError) as error:
        read_valid(write_json(tmp_path / "broken.json", coco_tree(**changes)))
    for word in ["broken.json", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_records_made_in_python_are_held_to_the_same_rule(number):
    box = Box(3, 1, 0, (1.0, number, 5.0, 5.0))
    records = Records([ImageRecord(1, "a.png", 9, 9)], [Category(0, "cat")], [box])
    with pytest.raises(DataError, match=r"id 3.*not finite"):
        validate(records, "x")


def test_a_repeated_annotation_id_is_noted_and_both_boxes_count(tmp_path):
    box = {"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 1, 9, 9]}
    data = read_valid(write_json(tmp_path / "a.json", coco_tree(annotations=[box, box])))
    assert data.boxes == 2
    assert [p.verdict for p in data.problems] == ["noted", "noted"]
    assert "several records share this id" in str(data.problems[0])
    assert "1 boxes stand twice" in str(data.problems[1])


side = st.one_of(st.floats(), st.sampled_from([-1, -1e-9, 0.0, 1.0, 1 - 1e-9, 2.0, 29.0, 30.0, 30 + 1e-9, 31.0]))


@given(
    st.tuples(side, side, side, side), st.sampled_from([0, 1, 2]), st.sampled_from([0, 1]), st.sampled_from([5, 2**63])
)
def test_a_box_that_is_plainly_inside_has_no_finding(bbox, iscrowd, ignore, number):
    box = Box(number, ImageId(1), 1, bbox, iscrowd=iscrowd, ignore=ignore)
    image = ImageRecord(ImageId(1), "a.png", 31, 30)
    if validation._is_plainly_inside(box, image):
        assert list(validation._box_findings(box, image, {1})) == []


def test_most_boxes_are_plainly_inside():
    image = ImageRecord(ImageId(1), "a.png", 31, 30)
    assert validation._is_plainly_inside(Box(5, ImageId(1), 1, (0.0, 0.0, 31.0, 30.0)), image)


def test_findings_that_are_known_are_not_searched_again(monkeypatch):
    own = Records([ImageRecord(ImageId(1), "a.png", 31, 30)], [Category(1, "x")], [])
    problems = validation.find_problems(own, "x")
    monkeypatch.setattr(validation, "find_problems", None)
    assert validation.data_set_of(own, "x", problems).problems == ()
    refused = validation.Problem("refused", "x: images", "ugly")
    with pytest.raises(DataError, match="ugly"):
        validation.data_set_of(own, "x", [refused])


@given(st.lists(st.integers(-3, 3), max_size=20))
def test_repetitions_are_the_rows_whose_value_was_seen(values):
    expected = [row for row, value in enumerate(values) if value in values[:row]]
    assert validation.repetitions(np.array(values, dtype=np.int64)).tolist() == expected


@given(st.lists(st.sampled_from([1, 2, 3, 2**70]), max_size=8))
def test_repeated_ids_are_found_in_any_order_and_of_any_size(ids):
    assert sorted(validation._repeated(ids)) == sorted({i for i in ids if ids.count(i) > 1})


def test_boxes_that_stand_twice_are_counted_and_the_first_repetition_is_named():
    image = ImageRecord(ImageId(1), "a.png", 31, 30)
    bbox = [
        (1.0, 1.0, 5.0, 5.0),
        (2.0, 1.0, 5.0, 5.0),
        (1.0, 1.0, 5.0, 5.0),
        (2.0, 1.0, 5.0, 5.0),
        (1.0, 1.0, 5.0, 5.0),
    ]
    boxes = [Box(10 - row, ImageId(1), 1, place) for row, place in enumerate(bbox)]
    (problem,) = find_problems(Records([image], [Category(1, "x")], boxes), "x")
    assert str(problem).startswith("noted: x: annotations: id 8: 3 boxes stand twice")


@pytest.mark.parametrize(
    "change",
    [
        {"bbox": (-0.5, 5.0, 10.0, 10.0)},
        {"bbox": (5.0, -0.5, 10.0, 10.0)},
        {"bbox": (5.0, 5.0, 10.0, 26.0)},
        {"bbox": (22.0, 5.0, 10.0, 10.0)},
        {"bbox": (5.0, 5.0, 0.5, 10.0)},
        {"bbox": (5.0, 5.0, 10.0, 0.5)},
        {"bbox": (5.0, 5.0, math.nan, 10.0)},
        {"iscrowd": 2},
        {"ignore": 1},
        {"id": 2**63},
        {"id": -(2**63) - 1},
    ],
)
def test_a_box_with_one_fault_is_looked_at_closely(change):
    image = ImageRecord(ImageId(1), "a.png", 31, 30)
    box = Box(5, ImageId(1), 1, (5.0, 5.0, 10.0, 10.0))
    assert validation._is_plainly_inside(box, image)
    faulty = msgspec.structs.replace(box, **change)
    assert not validation._is_plainly_inside(faulty, image)
    assert len(list(validation._box_findings(faulty, image, {1}))) == 1
