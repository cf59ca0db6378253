"""Pseudo-boxes are filtered for each loss and counted against the truth."""

import numpy as np
import pytest
import torch

from alloop.training.semi_supervised.pseudo_labels import INITIAL, box_variance, filtered_boxes, match_counts
from alloop.values import Annotations


def test_the_variance_of_a_box_is_that_of_its_refined_boxes():
    boxes, labels = [torch.tensor([[0.0, 0.0, 20.0, 10.0], [5.0, 5.0, 9.0, 9.0]])], [torch.tensor([0, 1])]
    torch.manual_seed(0)
    kept = []

    def refine(moved, of):
        assert of[0].tolist() == [0, 1] * 400
        kept.append(moved[0].view(400, 2, 4))
        return moved

    found = box_variance(refine, boxes, labels, 400, 0.06)[0]
    expected = [float(kept[0][:, row].std(dim=0).mean()) / (0.5 * sides) for row, sides in ((0, 30.0), (1, 8.0))]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    # deviation 0.06 w of two coordinates and 0.06 h of the others: their mean over half of w + h is 0.06
    assert found.tolist() == pytest.approx([0.06, 0.06], rel=0.1)
    still = box_variance(lambda moved, _: [torch.ones_like(moved[0])], boxes, labels, 5, 0.06)[0]
    assert still.tolist() == [0, 0]
    assert len(box_variance(lambda moved, _: moved, [torch.zeros(0, 4)], [torch.zeros(0)], 5, 0.06)[0]) == 0


def test_each_loss_has_its_own_filter():
    found = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [9.0, 0, 19, 9], [0.0, 9, 9, 19], [0.0, 0, 0.5, 9]]),
        "scores": torch.tensor([0.95, 0.8, 0.6, 0.99]),
        "labels": torch.tensor([0, 1, 0, 0]),
    }
    variance = torch.tensor([0.021, 0.019, 0.01, 0.01])
    assert INITIAL < 0.6
    pseudo = filtered_boxes(found, variance, torch.tensor([0.9, 0.7]), 0.9, 0.02)
    assert pseudo.proposals.tolist() == [[0, 0, 9, 9]], "the base threshold"
    assert pseudo.labels.tolist() == [0, 1], "a threshold for each class"
    assert pseudo.scores.tolist() == pytest.approx([0.95, 0.8])
    assert pseudo.reliable.tolist() == [[9, 0, 19, 9], [0, 9, 9, 19]], "boxes of small variance, whatever their score"
    assert pseudo.reliable_labels.tolist() == [1, 0]
    assert len(filtered_boxes(found, None, torch.tensor([0.9, 0.7]), 0.9, 0.02).reliable) == 0


def test_correct_pseudo_boxes_are_counted_once():
    truth = Annotations(
        boxes=np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], dtype=np.float32),
        labels=np.array([0, 0, 1]),
        crowd=np.array([False, False, False]),
        trainable=np.array([True, True, True]),
        masks=(None,) * 3,
    )
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [40, 0, 50, 10], [21, 0, 31, 10]], dtype=np.float32)
    counts = match_counts(truth, boxes, np.array([0, 0, 0, 0]), 3)
    assert counts.tolist() == [[4, 0, 0], [2, 0, 0], [2, 1, 0]]
    assert match_counts(truth, boxes[:0], np.zeros(0, dtype=np.int64), 3).tolist() == [[0, 0, 0], [0, 0, 0], [2, 1, 0]]
