"""The pure functions of class-balanced training: gradients, weights, thresholds, repeat factors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.results.published import tables
from alloop.training.repeat_factors import class_frequencies, class_repeats, image_repeats, pseudo_labeled_repeats
from alloop.training.semi_supervised.class_thresholds import class_thresholds, updated_confidence
from alloop.training.semi_supervised.gradient_balance import (
    EPSILON,
    SCALE,
    SHIFT,
    ClassWeights,
    balanced_weights,
    gradient_matrix,
    jacobi_step,
)


def golden():
    return json.loads((Path(__file__).parents[1] / "golden" / "gbr.json").read_text())["cases"]


@pytest.mark.parametrize("case", golden())
def test_the_released_module_ends_with_these_weights_and_this_matrix(case):
    matrix = case["loss_weight"] * gradient_matrix(torch.tensor(case["logits"]), torch.tensor(case["labels"]))
    learned = ClassWeights(case["num_classes"], case["warm_up_iter"], lr=case["sgd_lr"], momentum=0.0, weight_decay=0.0)
    for _ in range(case["iterations"]):
        learned.update(matrix)
        learned.step(float(case["loss_weight"]))
    expected = torch.tensor(case["accumulated_gradient_matrix"])
    assert torch.allclose(learned.matrix, expected, rtol=1e-6, atol=1e-6)
    assert torch.allclose(learned.weights, torch.tensor(case["final_class_weights"]), rtol=1e-5)
    assert float(learned.weights.sum().detach()) == pytest.approx(case["num_classes"] + 1)


def regions(seed, count=200, classes=5):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(count, classes, generator=random) * 2, torch.randint(classes, (count,), generator=random)


@pytest.mark.parametrize("focal", [0.0, 1.0, 2.0])
def test_the_matrix_is_what_autograd_says(focal):
    """Row i, column j: the gradient in logit j of the mean loss of the regions of class i."""
    logits, labels = regions(0)
    logits = logits.double().requires_grad_()
    p = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    loss = ((1 - p) ** focal * -p.log()).sum() / len(labels)
    (slopes,) = torch.autograd.grad(loss, logits)
    expected = torch.zeros(5, 5, dtype=torch.float64).index_add_(0, labels, slopes)
    found = gradient_matrix(logits, labels, focal=focal) / SCALE
    assert torch.allclose(found, expected, rtol=2e-2, atol=20 * SHIFT)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_what_cross_entropy_pushes_in_a_row_is_what_it_pulls(seed):
    logits, labels = regions(seed)
    matrix = gradient_matrix(logits.double(), labels, focal=0.0)
    assert torch.allclose(matrix.sum(dim=1), torch.zeros(5, dtype=torch.float64), atol=20 * SCALE * SHIFT)


def test_weights_of_regions_and_no_region_at_all():
    logits, labels = regions(1)
    twice = torch.cat([logits, logits[:50]]), torch.cat([labels, labels[:50]])
    weights = torch.ones(200).index_fill_(0, torch.arange(50), 2.0)
    assert torch.allclose(
        gradient_matrix(*twice) * 250 / 200, gradient_matrix(logits, labels, weights), rtol=1e-4, atol=1e-5
    )
    assert not gradient_matrix(logits[:0], labels[:0]).any()


def dominant(seed, classes=5):
    """A matrix with a balanced solution inside the clip."""
    random = torch.Generator().manual_seed(seed)
    matrix = torch.rand(classes, classes, generator=random, dtype=torch.float64) * 0.5 + 0.5
    matrix[range(classes), range(classes)] = 0
    matrix[range(classes), range(classes)] = -matrix.sum(dim=0) * (0.9 + 0.2 * torch.rand(classes, generator=random))
    return matrix


def test_jacobi_steps_lead_to_the_balanced_system():
    compared = 0
    for seed in range(20):
        matrix = dominant(seed)
        weights = torch.ones(5, dtype=torch.float64)
        for _ in range(2000):
            weights = 0.5 * weights + 0.5 * jacobi_step(matrix, weights)
            weights = weights * 5 / weights.sum()
        direct = balanced_weights(matrix)
        if direct.min() <= 1 / 3 or direct[-1] >= 1 or direct.max() >= 5:
            continue
        compared += 1
        assert torch.allclose(weights, direct, atol=1e-3)
        assert torch.allclose((direct @ matrix)[:-1], torch.zeros(4, dtype=torch.float64), atol=1e-9)
    assert compared >= 5


def test_weights_stay_within_their_limits():
    """The background takes what is left of n + 1, but never more than 1; nothing leaves 1/3 to 5."""
    quiet = torch.full((4, 4), 0.1)
    quiet[range(4), range(4)] = -1.0
    assert jacobi_step(quiet, torch.ones(4)).tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1.0])
    loud = torch.full((4, 4), 9.0)
    loud[range(4), range(4)] = -1.0
    assert jacobi_step(loud, torch.ones(4)).tolist() == pytest.approx([5.0, 5.0, 5.0, 1 / 3])


def test_a_symmetric_matrix_gives_equal_weights():
    matrix = torch.full((6, 6), 0.3, dtype=torch.float64)
    matrix[range(6), range(6)] = -1.5
    assert torch.allclose(balanced_weights(matrix), torch.ones(6, dtype=torch.float64))
    assert torch.allclose(
        jacobi_step(matrix, torch.ones(6, dtype=torch.float64)), torch.ones(6, dtype=torch.float64), atol=10 * EPSILON
    )
    learned = ClassWeights(5, 1)
    for _ in range(3):
        learned.update(matrix.float())
    assert torch.allclose(learned.weights, torch.ones(6))
    assert float(learned.loss().detach()) == pytest.approx(0, abs=1e-6)


def test_the_direct_solution_can_be_negative_and_the_learned_one_cannot():
    matrix = torch.tensor([[-1.0, 3.0, 1.0], [3.0, -1.0, 1.0], [1.0, 1.0, -1.0]])
    assert balanced_weights(matrix).min() < 0
    learned = ClassWeights(2, 0, lr=0.5, momentum=0.0)
    for _ in range(300):
        learned.update(matrix)
        learned.step()
    assert learned.weights.min() > 0
    assert float(learned.weights.sum().detach()) == pytest.approx(3)


def test_weights_are_saved_with_their_training():
    logits, labels = regions(3)
    one = ClassWeights(4, 2)
    for _ in range(5):
        one.update(gradient_matrix(logits, labels))
    two = ClassWeights(4, 2)
    two.load_state_dict(one.state_dict())
    one.update(torch.ones(5, 5))
    two.update(torch.ones(5, 5))
    assert torch.equal(one.matrix, two.matrix)
    assert int(two.updates) == 6


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
    found, count = updated_confidence(confidence, seen, torch.from_numpy(scores), torch.from_numpy(labels))
    assert count.tolist() == counted
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_repeats_by_hand():
    labels = [np.array([0, 0]), np.array([0, 1]), np.array([0]), np.array([], dtype=np.int64)]
    frequencies = class_frequencies(labels, 3)
    assert frequencies.tolist() == [0.75, 0.25, 0.0]
    assert class_repeats(frequencies, 1.0).tolist() == pytest.approx([np.sqrt(1 / 0.75), 2.0, 1.0])
    assert image_repeats(labels, 3, 1.0).tolist() == [2, 2, 2, 1]
    assert image_repeats(labels, 3, 0.01).tolist() == [1, 1, 1, 1]
    residuals = [np.array([0.1, 0.3]), np.array([0.2, 0.9]), np.array([0.0]), np.array([])]
    assert pseudo_labeled_repeats(labels, residuals, np.array([0.5, 0.02, 0.1]), 0.5, 1.0).tolist() == [1, 5, 1, 1]
    assert pseudo_labeled_repeats(labels, residuals, np.array([0.5, 0.02, 0.1]), 0.5, 0.0).tolist() == [1, 1, 1, 1]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-4, 1), min_size=2, max_size=10), st.floats(1e-3, 1))
def test_the_rarer_a_class_the_more_often_its_images(frequencies, threshold):
    ordered = np.sort(np.array(frequencies))
    repeats = class_repeats(ordered, threshold)
    assert (np.diff(repeats) <= 1e-12).all()
    assert (repeats >= 1).all()


def test_all_is_what_majority_and_minority_make():
    """80 classes, 60 of them frequent: every printed row obeys, but for one that is marked as a possible misprint."""
    checked, odd = 0, []
    for name, table in tables().items():
        if not name.startswith("cissod"):
            continue
        for row, cells in _rows(table["rows"]):
            if {"all", "maj", "min"} <= cells.keys() and None not in (cells["all"], cells["maj"], cells["min"]):
                checked += 1
                if abs((60 * cells["maj"] + 20 * cells["min"]) / 80 - cells["all"]) > 0.1:
                    odd.append((name, row))
    assert checked > 5
    assert odd == [("cissod.table4", "Unbiased Teacher")]


def _rows(tree, path=""):
    if isinstance(tree, dict) and any(isinstance(value, dict) for value in tree.values()):
        for key, value in tree.items():
            yield from _rows(value, f"{path}{key} ")
    elif isinstance(tree, dict):
        yield path.strip(), tree
