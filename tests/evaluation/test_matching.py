"""What is kept of the test detections: COCO's matching, the limit, crowds and groups."""

import numpy as np

from alloop.evaluation.matching import IOU_THRESHOLDS, matched_detections
from alloop.values import Annotations, Detections

BOX = [0, 0, 10, 10]


def detected(boxes, scores, labels=None):
    labels = labels or [0] * len(boxes)
    return Detections(boxes, scores, labels, np.full((len(boxes), 2), 0.3))


def test_a_better_overlap_matches_at_more_thresholds():
    truth = {4: Annotations([BOX], [1], [False], [True])}
    kept = matched_detections(truth, {4: detected([[0, 0, 10, 7.2], [30, 30, 40, 40]], [0.9, 0.8], [1, 1])}, "ab", {})
    assert kept.matched[:, 0].tolist() == [True] * 5 + [False] * 5  # IoU 0.72: 0.50 to 0.70
    assert not kept.matched[:, 1].any()
    assert not kept.ignored.any()
    assert (kept.image_ids.tolist(), kept.class_names, kept.groups) == ([4], ("a", "b"), ())
    assert (kept.truth_images.tolist(), kept.truth_labels.tolist()) == ([0], [1])


def test_detections_in_a_crowd_and_beyond_the_limit_are_ignored():
    truth = {4: Annotations([BOX, [50, 50, 90, 90]], [0, 0], [False, True], [True, False])}
    found = {4: detected([[55, 55, 85, 85], BOX, [0, 0, 10, 9]], [0.9, 0.8, 0.7])}
    kept = matched_detections(truth, found, ["a"], {}, max_detections=2)
    assert kept.ignored.all(axis=1).tolist() == [False] * IOU_THRESHOLDS
    assert kept.ignored[:, 0].all(), "in the crowd"
    assert kept.matched[:, 1].all()
    assert not kept.ignored[:, 1].any()
    assert kept.ignored[:, 2].all(), "the third of two that count"
    assert not kept.matched[:, [0, 2]].any()
    assert len(kept.truth_images) == 1, "a crowd is no true box"
    assert matched_detections(truth, found, ["a"], {}).ignored[:, 2].tolist() == [False] * IOU_THRESHOLDS


def test_images_are_rows_in_the_order_of_their_ids_with_their_groups():
    truth = {i: Annotations([BOX], [0], [False], [True]) for i in (9, 2, 5)}
    found = {9: detected([BOX], [0.5]), 2: detected([[30, 30, 40, 40]], [0.25])}
    kept = matched_detections(truth, found, ["a"], {2: "x", 5: "y", 9: "x"})
    assert kept.image_ids.tolist() == [2, 5, 9]
    assert kept.groups == ("x", "y", "x")
    assert kept.images.tolist() == [0, 2]
    assert kept.scores.tolist() == [0.25, 0.5]
    assert kept.boxes.tolist() == [[30, 30, 40, 40], BOX]
    assert kept.matched.all(axis=0).tolist() == [False, True]


def test_without_detections_or_boxes_there_is_nothing_to_match():
    empty = Annotations(np.zeros((0, 4)), [], [], [])
    kept = matched_detections({1: Annotations([BOX], [0], [False], [True])}, {}, ["a"], {})
    assert kept.matched.shape == (IOU_THRESHOLDS, 0)
    assert len(kept.truth_images) == 1
    kept = matched_detections({1: empty}, {1: detected([BOX], [0.5])}, ["a"], {})
    assert not kept.matched.any()
    assert not kept.ignored.any()
    assert len(kept.truth_images) == 0
