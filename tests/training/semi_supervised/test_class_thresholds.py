"""GbT: thresholds and running confidence by hand and one by one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.training.semi_supervised.class_thresholds import class_thresholds, updated_confidence


def test_thresholds_by_hand():
    confidence = torch.tensor([0.9, 0.6, 0.3])
    assert class_thresholds(confidence).tolist() == pytest.approx([0.9, 0.9, 0.5])
    assert class_thresholds(confidence, torch.tensor([1.5, 0.5, 0.5])).tolist() == pytest.approx([0.6, 0.9, 0.5])
    assert class_thresholds(torch.zeros(3)).tolist() == pytest.approx([0.9] * 3)


def test_confidence_runs_as_released():
    confidence, seen = torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    thousand = torch.full((1000,), 0.5), torch.zeros(1000, dtype=torch.int64)
    confidence, seen = updated_confidence(confidence, seen, *thousand)
    assert confidence.tolist() == pytest.approx([0.5, 0.0], abs=1e-4)
    confidence, seen = updated_confidence(confidence, seen, torch.tensor([1.0, 0.8]), torch.tensor([0, 1]))
    assert confidence.tolist() == pytest.approx([0.999 * 0.5 + 0.001, 0.0008], abs=1e-4)
    assert seen.tolist() == [1001, 1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_confidence_of_a_batch_is_that_of_its_detections_one_by_one(seed):
    random = np.random.default_rng(seed)
    confidence, seen = torch.from_numpy(random.random(3)), torch.from_numpy(random.integers(0, 1003, 3))
    scores, labels = random.random(40), random.integers(0, 3, 40)
    expected, counted = confidence.tolist(), seen.tolist()
    for score, label in zip(scores, labels, strict=True):
        if counted[label] < 1000:
            expected[label] += score / 1000
        else:
            expected[label] = 0.999 * expected[label] + 0.001 * score
        counted[label] += 1
    updated, count = updated_confidence(confidence, seen, torch.from_numpy(scores), torch.from_numpy(labels))
    assert count.tolist() == counted
    assert updated.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_negative_weight_of_the_direct_solution_keeps_a_threshold_high():
    """It is clipped as where GbR uses it: b / w of a negative weight would be the lowest threshold of all."""
    confidence = torch.tensor([0.6, 0.6, 0.6])
    thresholds = class_thresholds(confidence, torch.tensor([-0.6, 1.0, 50.0]))
    assert thresholds.tolist() == pytest.approx([0.9, 0.9, 0.5])
    assert thresholds[0] == class_thresholds(confidence, torch.tensor([1 / 3, 1.0, 5.0]))[0]
