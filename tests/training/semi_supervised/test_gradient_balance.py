"""GbR: the matrix is that of autograd, and the weights balance it."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
    return json.loads((Path(__file__).parents[2] / "golden" / "gbr.json").read_text())["cases"]


@pytest.mark.parametrize("case", golden())
def test_the_released_module_ends_with_these_weights_and_this_matrix(case):
    matrix = case["loss_weight"] * gradient_matrix(torch.tensor(case["logits"]), torch.tensor(case["labels"]))
    learned = ClassWeights(case["num_classes"], case["warm_up_iter"], lr=case["sgd_lr"], momentum=0.0, weight_decay=0.0)
    for _ in range(case["iterations"]):
        learned.update(matrix)
        learned.step()  # plain SGD on the loss itself: the factor of the branch is in the matrix alone
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
def test_the_rows_of_cross_entropy_sum_to_zero(seed):
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


def test_weights_of_regions_average_one_and_wait_for_the_warm_up():
    random = torch.Generator().manual_seed(0)
    balance = ClassWeights(3, 2, lr=0.5)
    logits, labels = torch.randn(200, 4, generator=random), torch.tensor([0] * 120 + [1] * 20 + [2] * 5 + [3] * 55)
    assert torch.equal(balance.region_weights(labels, 1.0, 0), torch.ones(200))
    for _ in range(300):
        balance.update(gradient_matrix(logits, labels))
        balance.step()
    weights = balance.weights.detach()
    assert weights[2] > weights[1] > weights[0]
    for _ in range(5000):
        found = balance.region_weights(labels, 1.0, 1)
    assert float(found.mean()) == pytest.approx(1, abs=0.01)
    assert float(found[-60] / found[0]) == pytest.approx(
        float(weights[2].clamp(1 / 3, 5) / weights[0].clamp(1 / 3, 5)), rel=1e-4
    )
    halves = balance.region_weights(labels, 0.5, 0)
    assert float(halves[-60] / halves[0]) == pytest.approx(float(found[-60] / found[0]) ** 0.5, rel=1e-4)


@pytest.mark.parametrize("focal", [0.5, 1.5, 2.7])
def test_a_fractional_exponent_and_a_certain_region_give_a_finite_matrix(focal):
    """The shift lifts the probability of a certain region above 1; one matrix that is not finite would never fade."""
    matrix = gradient_matrix(torch.tensor([[40.0, 0.0, 0.0], [0.0, 0.0, 60.0]]), torch.tensor([0, 2]), focal=focal)
    assert matrix.isfinite().all()
    assert torch.allclose(matrix, torch.zeros(3, 3), atol=0.5)


def test_the_weights_before_they_settle_equal_a_naive_descent():
    """After few steps a wrong factor of the step would show; at the fixed point it does not."""
    logits, labels = regions(3, classes=4)
    matrix = 4 * gradient_matrix(logits, labels)
    learned = ClassWeights(3, 2, lr=0.3, momentum=0.0, weight_decay=0.0)
    a, running = [0.0] * 4, [[0.0] * 4 for _ in range(4)]
    for updates in range(1, 8):
        learned.update(matrix)
        learned.step()
        keep = updates / (updates + 1) if updates < 2 else 0.999
        running = [[keep * running[i][j] + (1 - keep) * float(matrix[i, j]) for j in range(4)] for i in range(4)]
        if updates >= 2:
            a = naive_step(running, a, lr=0.3)
    exponentials = [math.exp(value) for value in a]
    expected = [4 * value / sum(exponentials) for value in exponentials]
    assert learned.weights.detach().tolist() == pytest.approx(expected, rel=1e-4)
    assert max(expected) - min(expected) > 0.1


def naive_step(running, a, lr):
    """One step of plain SGD on mean_i (log t_i - a_i)^2, whose gradient is -2 (log t_i - a_i) / (n + 1)."""
    exponentials = [math.exp(value) for value in a]
    w = [len(a) * value / sum(exponentials) for value in exponentials]
    t = [
        sum(w[k] * running[k][i] for k in range(len(a)) if k != i) / (-running[i][i] + 1e-6) for i in range(len(a) - 1)
    ]
    t.append(len(a) - sum(t))
    t = [min(max(value, 1 / 3), 5.0) for value in t]
    t[-1] = min(t[-1], 1.0)
    return [value + lr * 2 * (math.log(target) - value) / len(a) for value, target in zip(a, t, strict=True)]
