"""AP by the rules of Pascal VOC equals a second implementation that follows the development kit line by line."""

import numpy as np
import pytest

from alloop.evaluation.coco_ap import evaluate
from alloop.evaluation.voc_ap import voc_ap
from alloop.values import Annotations, Detections, ImageId
from tests.evaluation.test_coco_ap import random_case

CLASSES = ["a", "b", "c"]


def annotations(boxes, labels=None, ignored=()):
    trainable = [row not in ignored for row in range(len(boxes))]
    return Annotations(
        np.array(boxes, np.float32).reshape(-1, 4), labels or [0] * len(boxes), [False] * len(boxes), trainable
    )


def detections(boxes, scores, labels=None):
    labels = labels or [0] * len(boxes)
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), scores, labels, np.full((len(boxes), 3), 0.3))


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def naive(truth, found, label):
    """Return (area, eleven points) of one class as the development kit computes them; None without an object."""
    objects, difficult, taken = [], [], set()
    for image_id, true in truth.items():
        for row in range(len(true)):
            sides = true.boxes[row, 2:] - true.boxes[row, :2]
            if true.labels[row] == label and (true.trainable[row] or (sides >= 0.9999).all()):
                objects.append((image_id, true.boxes[row].astype(float)))
                difficult.append(not true.trainable[row])
    positives = difficult.count(False)
    if not positives:
        return None
    given = [
        (float(d.scores[row]), image_id, d.boxes[row].astype(float))
        for image_id, d in sorted(found.items())
        for row in range(len(d))
        if d.labels[row] == label
    ]
    given.sort(key=lambda one: -one[0])  # stable, as in the code
    right = []
    for _, image_id, box in given:
        overlaps = [overlap(box, other) if where == image_id else -1.0 for where, other in objects]
        best = int(np.argmax(overlaps)) if overlaps else 0
        if not overlaps or overlaps[best] < 0.5:
            right.append(False)
        elif difficult[best]:
            continue
        else:
            right.append(best not in taken)
            taken.add(best)
    points = [(sum(right[: k + 1]), sum(right[: k + 1]) / (k + 1)) for k in range(len(right))]
    eleven = [max([p for n, p in points if 10 * n >= t * positives], default=0.0) for t in range(11)]
    area, reached = 0.0, 0
    for n, _ in points:
        area += (n - reached) / positives * max(p for m, p in points if m >= n)
        reached = n
    return area, sum(eleven) / 11


def test_a_second_implementation_gives_the_same_on_a_thousand_random_cases():
    chance, compared = np.random.default_rng(1), 0
    for _ in range(1000):
        truth, found = random_case(chance)
        found = {image_id: one for image_id, one in found.items() if chance.random() < 0.9}
        cells = [cell for label in range(3) if (cell := naive(truth, found, label)) is not None]
        values = voc_ap(truth, found, CLASSES)
        if not cells:
            assert values == {"voc_ap50": None, "voc07_ap50": None}
            continue
        assert values["voc_ap50"] == pytest.approx(np.mean([area for area, _ in cells]), abs=1e-12)
        assert values["voc07_ap50"] == pytest.approx(np.mean([eleven for _, eleven in cells]), abs=1e-12)
        compared += 1
    assert compared > 700


def test_a_difficult_object_forgives_by_iou_and_not_everything_inside_it():
    """One difficult box with two small false positives in it, and one right detection below them."""
    truth = {ImageId(1): annotations([[0, 0, 100, 100], [200, 0, 230, 30]], ignored=[0])}
    inside = [[10, 10, 30, 30], [50, 50, 80, 80], [200, 0, 230, 30]]
    found = {ImageId(1): detections(inside, [0.9, 0.8, 0.7])}
    assert voc_ap(truth, found, ["a"])["voc_ap50"] == pytest.approx(1 / 3)
    assert evaluate(truth, found, ["a"]).values["ap50"] == pytest.approx(1 / 3)
    crowd = {ImageId(1): Annotations(truth[ImageId(1)].boxes, [0, 0], [True, False], [False, True])}
    assert evaluate(crowd, found, ["a"]).values["ap50"] == 1.0, "a crowd forgives what lies inside it"


def test_every_detection_of_a_difficult_object_is_forgiven_by_voc_and_one_by_coco():
    truth = {ImageId(1): annotations([[0, 0, 100, 100], [200, 0, 230, 30]], ignored=[0])}
    twice = [[0, 0, 100, 100], [1, 0, 100, 100], [200, 0, 230, 30]]
    found = {ImageId(1): detections(twice, [0.9, 0.8, 0.7])}
    assert voc_ap(truth, found, ["a"]) == {"voc_ap50": 1.0, "voc07_ap50": 1.0}
    assert evaluate(truth, found, ["a"]).values["ap50"] == pytest.approx(0.5, abs=1e-6)


def test_a_difficult_object_is_not_missed():
    truth = {ImageId(1): annotations([[0, 0, 100, 100], [200, 0, 230, 30]], ignored=[0])}
    found = {ImageId(1): detections([[200, 0, 230, 30]], [0.7])}
    assert voc_ap(truth, found, ["a"])["voc_ap50"] == 1.0
    values = evaluate(truth, found, ["a"]).values
    assert values["ap50"] == 1.0
    assert values["ap_large"] is None, "the only large object does not count"
    nothing = evaluate(truth, {}, ["a"]).values
    assert nothing["ap50"] == 0.0
    assert nothing["ap_large"] is None


def test_a_detection_belongs_to_the_box_that_it_overlaps_most():
    """By COCO the second detection takes the box that is left; by VOC it belongs to the first one, and is wrong."""
    truth = {ImageId(1): annotations([[0, 0, 100, 100], [20, 0, 120, 100]])}
    found = {ImageId(1): detections([[0, 0, 100, 100], [5, 0, 105, 100]], [0.9, 0.8])}
    assert voc_ap(truth, found, ["a"])["voc_ap50"] == 0.5
    assert evaluate(truth, found, ["a"]).values["ap50"] == 1.0


def test_eleven_points_are_reached_by_whole_numbers():
    """Three of ten objects are found: recalls 0, .1, .2 and .3 are reached. In floating point 3 * .1 exceeds .3."""
    boxes = [[50 * k, 0, 50 * k + 30, 30] for k in range(10)]
    truth = {ImageId(1): annotations(boxes)}
    found = {ImageId(1): detections(boxes[:3], [0.9, 0.8, 0.7])}
    values = voc_ap(truth, found, ["a"])
    assert values["voc07_ap50"] == pytest.approx(4 / 11)
    assert values["voc_ap50"] == pytest.approx(0.3)


def test_nothing_to_find_is_none_and_nothing_found_is_zero():
    empty = {ImageId(1): annotations([])}
    assert voc_ap(empty, {}, ["a"]) == {"voc_ap50": None, "voc07_ap50": None}
    assert voc_ap({}, {}, ["a"]) == {"voc_ap50": None, "voc07_ap50": None}
    truth = {ImageId(1): annotations([[0, 0, 10, 10]])}
    assert voc_ap(truth, {}, ["a", "b"]) == {"voc_ap50": 0.0, "voc07_ap50": 0.0}


def test_the_order_of_images_does_not_matter():
    chance = np.random.default_rng(2)
    truth, found = random_case(chance, images=6)
    turned = dict(reversed(list(truth.items())))
    assert voc_ap(truth, found, CLASSES) == voc_ap(turned, dict(reversed(list(found.items()))), CLASSES)
