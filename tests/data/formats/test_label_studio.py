"""Label Studio JSON as its server exports it."""

import json
import math

import numpy as np
import pytest

from alloop.data.formats.label_studio_tasks import label_config, parsed_region, region
from alloop.data.formats.table import annotation_format
from alloop.data.validation import validate
from alloop.errors import DataError
from tests.support.annotations import export, value


def read(tmp_path, tasks):
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return validate(annotation_format("label_studio", "test").read(tmp_path / "tasks.json"), "x")


def test_rotation_turns_about_the_top_left_in_pixels(tmp_path):
    """Measured on the page: in per cent of a wide image the turned box would come out wrong."""
    data = read(tmp_path, export(value(25, 25, 20, 20, rotation=30)))
    (x1, y1, x2, y2) = data.annotations[12].boxes[0]
    w, h, sin, cos = 80, 40, math.sin(math.radians(30)), math.cos(math.radians(30))
    assert np.allclose([x1, y1, x2, y2], [100 - h * sin, 50, 100 + w * cos, 50 + w * sin + h * cos], atol=1e-3)


def test_the_newest_annotation_counts_and_a_skip_never(tmp_path):
    tasks = export(value(10, 10, 10, 10))
    tasks[0]["annotations"] += [
        {"id": 2, "result": [value(20, 20, 10, 10)], "updated_at": "2026-01-02", "was_cancelled": False},
        {"id": 3, "result": [value(30, 30, 10, 10)], "updated_at": "2026-01-03", "was_cancelled": True},
    ]
    assert np.allclose(read(tmp_path, tasks).annotations[12].boxes, [[80, 40, 120, 60]])
    untouched = {"data": tasks[0]["data"] | {"alloop_id": 13, "file_name": "b.jpg"}, "annotations": []}
    assert read(tmp_path, [*tasks, untouched]).unlabeled == {13}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (export(value(1, 1, 1, 1) | {"original_width": 401}), "drawn on an image of 401 x 200"),
        (export(value(float("nan"), 1, 1, 1)), "not finite"),
        (export({"type": "rectangle", "value": {"x": 1, "y": 1, "width": 1, "height": 1}}), "labeled rectangle"),
        (export({"type": "brushlabels", "value": {"rle": [1]}}), "labeled rectangle"),
        (export(value(None, 1, 1, 1)), "no numbers"),
        (export(width=None), "size is unknown"),
        (export(alloop_id="x"), "cannot be used"),
        ([{"data": {"alloop_id": 1, "width": 4, "height": 4}, "annotations": 3}], "cannot be used"),
        ({"data": 1}, "expected a list of tasks"),
        ([1], "expected a list of tasks"),
    ],
)
def test_exports_that_cannot_be_used_are_named(tmp_path, tasks, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, tasks)


def test_regions_there_and_back_in_pixels():
    random = np.random.default_rng(0)
    for number in range(200):
        size = (int(random.integers(1, 5000)), int(random.integers(1, 5000)))
        low, high = np.sort(random.uniform(0, size, (2, 2)), axis=0)
        corners = (*low, *high)
        label, found = parsed_region(region(corners, "a b", size, number), size)
        assert label == "a b"
        assert np.allclose(found, corners, atol=1e-6)
    assert '<Label value="a &lt;b&gt;"' in label_config(["a <b>"])
