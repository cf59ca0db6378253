"""The lessons of `benchmarks/told.py`: what its table says was told is what was told."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alloop.detectors.protocol import PseudoBoxes
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.values import Annotations

TRUE = [[0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 90, 90], [5, 5, 95, 95]]  # the last one is a crowd
SAID = [[1, 1, 10, 10], [20, 20, 40, 40], [100, 100, 120, 120]]  # right, of another class, nothing there
REGIONS = torch.tensor([[60.0, 60, 72, 90], [0, 0, 10, 10], [200, 200, 220, 220], [20, 20, 40, 40]])


@pytest.fixture
def lesson(monkeypatch):
    """From a class of lessons to what its student is told, and how far each region is background to it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import told

    def given(kind):
        lessons = getattr(told, kind).__new__(getattr(told, kind))
        crowd = np.array([False, False, False, True])
        boxes = np.array(TRUE, dtype=np.float32) * 2  # as displayed: twice as large as the teacher sees it
        truth = Annotations(boxes=boxes, labels=np.array([0, 1, 2, 0]), crowd=crowd, trainable=~crowd)
        lessons._truth, lessons._ids = {7: truth}.__getitem__, [7]
        lessons._unlabeled = SimpleNamespace(box_scale=lambda _: np.full(4, 0.5, dtype=np.float32))
        seen = SimpleNamespace(classified_regions=lambda regions: [(torch.full((len(r), 3), 0.7), r) for r in regions])
        found = {}

        def taught(_, weak, seen, pseudo):
            (found["told"],), ((said, _),) = pseudo, seen.classified_regions([REGIONS])
            found["background"] = said[:, -1].tolist()
            return {"loss_objectness": torch.ones(1), "loss_classifier": torch.ones(1)}

        monkeypatch.setattr(SemiSupervisedObjective, "_taught", taught)
        boxes, labels = torch.tensor(SAID, dtype=torch.float32), torch.tensor([0, 2, 1])
        pseudo = PseudoBoxes(boxes, boxes, labels, labels + 0.5, boxes, labels)
        found["terms"] = set(lessons._taught([], seen, [pseudo]))
        return found

    return given


EVERYTHING = {"loss_objectness", "loss_classifier"}
ALIKE = pytest.approx([0.7] * 4)


def test_no_wrong_box_is_told(lesson):
    found = lesson("NoneWrong")
    told = found["told"]
    assert told.boxes.tolist() == told.reliable.tolist() == SAID[:1]
    assert told.labels.tolist() == told.reliable_labels.tolist() == [0]
    assert told.scores.tolist() == [0.5]
    assert told.proposals.tolist() == SAID[:2], "an object, whatever its class"
    assert found["background"] == ALIKE
    assert found["terms"] == EVERYTHING


def test_nothing_that_was_missed_is_background(lesson):
    found = lesson("NoneAsBackground")
    assert found["told"].boxes.tolist() == SAID
    assert found["background"] == pytest.approx([0.0, 0.7, 0.7, 0.7]), "only the third object was missed"
    assert found["terms"] == {"loss_classifier"}, "proposals are not taught"


def test_all_that_is_true_is_told(lesson):
    found = lesson("AllTrue")
    told = found["told"]
    assert told.boxes.tolist() == told.proposals.tolist() == told.reliable.tolist() == TRUE[:3]
    assert told.labels.tolist() == told.reliable_labels.tolist() == [0, 1, 2]
    assert found["background"] == ALIKE
    assert found["terms"] == EVERYTHING
