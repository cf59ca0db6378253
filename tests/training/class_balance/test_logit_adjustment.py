"""Logit adjustment: the bias does what subtracting tau log(K pi) from the logits does, and nothing else changes."""

import math

import numpy as np
import pytest
import torch

from alloop.errors import TrainingError
from alloop.training.class_balance.logit_adjustment import adjust_logits, logit_shifts
from tests.support.detectors import make, plugin

TWO_STAGE = ["faster_rcnn", "faster_rcnn_c4", "mask_rcnn"]


def counts(*values):
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", TWO_STAGE)
def test_the_adjusted_probabilities_are_those_of_adjusted_logits(name, tau):
    images, boxes = [torch.rand(3, 64, 64)], [torch.tensor([[2.0, 2, 30, 30], [20, 10, 60, 60], [0, 0, 9, 9]])]
    detector = make(name)
    ((_, before),) = detector.classifier_outputs(images, boxes)  # [3, 4], background last
    adjust_logits(detector, counts(60, 30, 10), tau)
    ((_, after),) = detector.classifier_outputs(images, boxes)
    for row in range(3):
        odds = [float(before[row, c]) / (3 * pi) ** tau for c, pi in enumerate((0.6, 0.3, 0.1))]
        odds.append(float(before[row, 3]))
        assert after[row].tolist() == pytest.approx([p / sum(odds) for p in odds], rel=1e-4)


def test_only_the_biases_of_the_classes_change():
    detector = make("faster_rcnn")
    before = {name: tensor.clone() for name, tensor in detector.module.state_dict().items()}
    adjust_logits(detector, counts(8, 1, 1), 1.0)
    changed = {n for n, tensor in detector.module.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {"roi_heads.box_predictor.cls_score.bias"}
    shift = (detector.module.roi_heads.box_predictor.cls_score.bias - before[changed.pop()]).tolist()
    assert shift[0] == 0, "the background stays"
    assert shift[1:] == pytest.approx([-math.log(2.4), -math.log(0.3), -math.log(0.3)], abs=1e-6)


@pytest.mark.parametrize("boxes", [counts(5, 5, 5), counts(1, 1), counts(0, 7, 7, 7), counts(0, 0, 3)])
def test_equal_classes_change_nothing(boxes):
    assert logit_shifts(boxes, 3.0).tolist() == [0.0] * len(boxes)


def test_a_class_without_a_box_stays_as_it_is():
    with_unseen, without = logit_shifts(counts(0, 30, 10, 0), 1.5), logit_shifts(counts(30, 10), 1.5)
    assert with_unseen.tolist() == [0.0, *without, 0.0]
    assert logit_shifts(counts(0, 0), 1.0).tolist() == [0.0, 0.0]


def test_rarer_classes_gain_and_the_strength_is_a_factor():
    shifts = logit_shifts(counts(50, 20, 5), 1.0)
    assert shifts[0] < shifts[1] < shifts[2]
    assert shifts[0] < 0 < shifts[2]
    assert logit_shifts(counts(50, 20, 5), 2.5) == pytest.approx(2.5 * shifts)


def test_another_background_row_is_left_alone_as_well():
    detector = make("faster_rcnn")
    detector.background_row = 2
    bias = detector.module.roi_heads.box_predictor.cls_score.bias
    before = bias.detach().clone()
    adjust_logits(detector, counts(8, 1, 1), 1.0)
    assert [row for row in range(4) if bias[row] != before[row]] == [0, 1, 3]
    assert bias[0] < before[0]


def test_a_layer_that_is_not_linear_is_refused():
    detector = make("faster_rcnn")
    detector.classification_layer = "roi_heads.box_head"
    with pytest.raises(TrainingError, match=r"expected 'roi_heads\.box_head'.*to be a linear layer with a bias"):
        adjust_logits(detector, counts(1, 2, 3), 1.0)


def test_one_stage_plugins_declare_no_class_balance():
    assert not hasattr(plugin("fcos"), "balances_classes")
    assert all(plugin(name).balances_classes for name in TWO_STAGE)
