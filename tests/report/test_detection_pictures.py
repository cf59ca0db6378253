"""Test images with the detections that a run kept."""

from contextlib import nullcontext

import numpy as np
import pytest

from alloop.evaluation.matching import MatchedDetections
from alloop.report import detection_pictures
from alloop.report.detection_pictures import detection_galleries, shown_from
from alloop.results.runs import find_runs
from tests.support.runs import run, write_study

KEPT = MatchedDetections(
    image_ids=np.array([3, 5, 8]),
    groups=(),
    class_names=("cat", "<dog>"),
    truth_images=np.array([0, 1, 1, 1]),
    truth_labels=np.array([0, 0, 1, 1]),
    images=np.array([0, 0, 1, 1, 2]),
    labels=np.array([0, 1, 0, 1, 0]),
    scores=np.array([0.9, 0.1, 0.8, 0.7, 0.6], dtype=np.float32),
    boxes=np.array([[1, 1, 5, 5]] * 5, dtype=np.float32),
    matched=np.array([[True, False, True, False, False]] * 10),
    ignored=np.zeros((10, 5), dtype=bool),
)


@pytest.fixture
def shown(monkeypatch):
    """The galleries of runs that kept `KEPT`, whose images are gray."""
    images = [(k, f"{k}.png", "") for k in (3, 5, 8)]
    monkeypatch.setattr(detection_pictures, "recorded_detections", lambda *_: KEPT)
    monkeypatch.setattr(detection_pictures, "recorded_images", lambda *_: {"test": images})
    monkeypatch.setattr(detection_pictures, "image_reader", lambda *_: lambda *_: np.zeros((8, 8, 3), "u1"))
    monkeypatch.setattr(detection_pictures, "read_ledger", lambda *_: nullcontext())
    galleries, reason = detection_galleries([run("random", [10, 20], [0.1, 0.2]), run("entropy", [10, 20], [0.1, 0.2])])
    assert reason == ""
    return galleries


def test_as_many_detections_are_shown_as_there_are_true_boxes(shown):
    assert shown_from(KEPT) == pytest.approx(0.6)
    assert [len(picture.boxes) for picture in shown[0].pictures] == [2, 1, 1]


def test_the_images_with_the_most_errors_come_first_and_all_runs_show_the_same(shown):
    assert [gallery.strategy for gallery in shown] == ["random", "entropy"]
    for gallery in shown:
        assert [picture.name for picture in gallery.pictures] == ["5.png", "8.png", "3.png"]
    assert [picture.lines for picture in shown[0].pictures] == [
        ("1 of 3 found; 1 wrong",),
        ("0 of 0 found; 1 wrong",),
        ("1 of 1 found; 0 wrong",),
    ]


def test_boxes_say_class_score_and_whether_they_are_right(shown):
    first = shown[0].pictures[0]
    assert [(box.text, box.kind) for box in first.boxes] == [("cat 0.80", "right"), ("<dog> 0.70", "wrong")]
    assert "&lt;dog&gt; 0.70" in first.__html__()


def test_runs_that_kept_nothing_show_nothing(tmp_path):
    assert detection_galleries(find_runs([write_study(tmp_path)])) == ([], "")
