"""The objectives of `benchmarks/teacher_errors.py` remove exactly the errors that their rows of the table name."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alloop.detectors.region_protocol import PseudoBoxes
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.values import Annotations

TRUE = [[0, 0, 10, 10], [20, 20, 40, 40], [60, 60, 90, 90], [5, 5, 95, 95]]  # the last one is a crowd
PREDICTED = [[1, 1, 10, 10], [20, 20, 40, 40], [100, 100, 120, 120]]  # correct, of another class, nothing there
REGIONS = torch.tensor([[60.0, 60, 72, 90], [0, 0, 10, 10], [200, 200, 220, 220], [20, 20, 40, 40]])


@pytest.fixture
def step(monkeypatch):
    """From a class of objectives to its pseudo-boxes, its loss terms, and the background probability of regions."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import teacher_errors

    def step_of(name):
        cls = getattr(teacher_errors, name)
        objective = cls.__new__(cls)
        crowd = np.array([False, False, False, True])
        boxes = np.array(TRUE, dtype=np.float32) * 2  # as displayed: twice as large as the teacher sees it
        truth = Annotations(boxes=boxes, labels=np.array([0, 1, 2, 0]), crowd=crowd, trainable=~crowd)
        objective._truth, objective._ids = {7: truth}.__getitem__, [7]
        objective._unlabeled = SimpleNamespace(box_scale=lambda _: np.full(4, 0.5, dtype=np.float32))
        result = {}

        def losses(self, images, features, pseudo):
            (result["pseudo"],) = pseudo
            result["background"] = self._background(features, [REGIONS])[0].tolist()
            return {"loss_objectness": torch.ones(1), "loss_classifier": torch.ones(1)}

        monkeypatch.setattr(SemiSupervisedObjective, "_unlabeled_losses", losses)
        background = lambda _self, _features, regions: [torch.full((len(r),), 0.7) for r in regions]  # noqa: E731
        monkeypatch.setattr(SemiSupervisedObjective, "_background", background)
        boxes, labels = torch.tensor(PREDICTED, dtype=torch.float32), torch.tensor([0, 2, 1])
        pseudo = PseudoBoxes(boxes, boxes, labels, labels + 0.5, boxes, labels)
        result["terms"] = set(objective._unlabeled_losses([], None, [pseudo]))
        return result

    return step_of


EVERY_TERM = {"loss_objectness", "loss_classifier"}
UNCHANGED = pytest.approx([0.7] * 4)


def test_no_wrong_box_is_a_pseudo_box(step):
    result = step("WithoutWrongBoxes")
    pseudo = result["pseudo"]
    assert pseudo.boxes.tolist() == pseudo.reliable.tolist() == PREDICTED[:1]
    assert pseudo.labels.tolist() == pseudo.reliable_labels.tolist() == [0]
    assert pseudo.scores.tolist() == [0.5]
    assert pseudo.proposals.tolist() == PREDICTED[:2], "an object, whatever its class"
    assert result["background"] == UNCHANGED
    assert result["terms"] == EVERY_TERM


def test_no_missed_object_is_trained_as_background(step):
    result = step("WithoutMissedObjects")
    assert result["pseudo"].boxes.tolist() == PREDICTED
    assert result["background"] == pytest.approx([0.0, 0.7, 0.7, 0.7]), "only the third object was missed"
    assert result["terms"] == {"loss_classifier"}, "the proposal loss is left out"


def test_every_true_box_is_a_pseudo_box(step):
    result = step("TrueBoxes")
    pseudo = result["pseudo"]
    assert pseudo.boxes.tolist() == pseudo.proposals.tolist() == pseudo.reliable.tolist() == TRUE[:3]
    assert pseudo.labels.tolist() == pseudo.reliable_labels.tolist() == [0, 1, 2]
    assert result["background"] == UNCHANGED
    assert result["terms"] == EVERY_TERM
