"""Sizes of images and boxes, against boxes that are scaled one by one."""

import numpy as np
import pytest

from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.sizes import box_sides, image_sizes, shown_sides
from alloop.values import Annotations, ImageRecord


def data_set(sizes, boxes_of):
    images = {k: ImageRecord(k, f"{k}.png", *size) for k, size in enumerate(sizes)}
    truths = {
        k: Annotations(
            np.array(boxes, dtype=np.float32).reshape(-1, 4), [0] * len(boxes), [False] * len(boxes), trainable
        )
        for k, (boxes, trainable) in enumerate(boxes_of)
    }
    return DataSet("d", images, GroupedAnnotations.of_mapping(truths), ("a",), (1,))


def test_sides_are_those_of_the_scaled_image():
    rng = np.random.default_rng(0)
    sizes = [(100, 50), (60, 200), (80, 80)]
    boxes_of = []
    for count in (3, 0, 2):
        corner = rng.uniform(0, 20, (count, 2))
        boxes_of.append((np.hstack([corner, corner + rng.uniform(1, 30, (count, 2))]), [True] * count))
    boxes_of[0] = (boxes_of[0][0], [True, False, True])
    own = data_set(sizes, boxes_of)
    expected = []
    for (width, height), (boxes, trainable) in zip(sizes, boxes_of, strict=True):
        scale = min(40 / min(width, height), 60 / max(width, height))
        expected += [
            scale * ((x2 - x1) * (y2 - y1)) ** 0.5
            for (x1, y1, x2, y2), used in zip(boxes, trainable, strict=True)
            if used
        ]
    np.testing.assert_allclose(box_sides(own, 40, 60), expected, rtol=1e-5)
    np.testing.assert_allclose(box_sides(own), box_sides(data_set(sizes, boxes_of), 10, None) * [5, 5, 8, 8], rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([], ""),
        ([(64, 48)] * 3, "64 x 48"),
        ([(64, 48), (32, 32), (64, 48), (100, 80)], "32 x 32 to 100 x 80, 50% 64 x 48"),
    ],
)
def test_image_sizes_in_words(sizes, words):
    assert image_sizes(data_set(sizes, [([], [])] * len(sizes))) == words


def test_a_set_without_boxes_has_no_sides():
    own = data_set([(8, 8)], [([], [])])
    assert len(box_sides(own, 10, 20)) == 0
    assert shown_sides(box_sides(own)) == ""
    assert shown_sides(np.arange(101.0)) == "10 / 50 / 90"
