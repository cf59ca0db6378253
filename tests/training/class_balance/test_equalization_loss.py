"""Equalization Loss v2: weights, loss and gradients equal those of a loop over single logits; the state is kept."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import TrainingError
from alloop.training.class_balance.equalization_loss import EqualizationLoss, EqualizedObjective
from alloop.training.supervised import SupervisedObjective
from tests.support.semi_supervised import objective_of, semi
from tests.support.training import MemoryStore, batches_of, experiment, trained_weights

EQL = {"name": "equalization_loss"}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class Naive:
    """The equations of the paper, one logit after the other."""

    def __init__(self, classes, gamma=12.0, mu=0.8, alpha=4.0):
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.positive, self.negative = [0.0] * classes, [0.0] * classes

    def weights(self, j):
        if j == len(self.positive) or self.negative[j] == 0:
            return 1.0, 1.0
        f = 1 / (1 + math.exp(-self.gamma * (self.positive[j] / self.negative[j] - self.mu)))
        return 1 + self.alpha * (1 - f), f

    def __call__(self, logits, labels, weights):
        q, r = zip(*(self.weights(j) for j in range(len(self.positive) + 1)), strict=True)
        losses = []
        for row, (z, y) in enumerate(zip(logits.tolist(), labels.tolist(), strict=True)):
            scale, loss = 1.0 if weights is None else float(weights[row]), 0.0
            for j, z_j in enumerate(z):
                weight = scale * (q[j] if j == y else r[j])
                gradient = weight * (1 - sigmoid(z_j) if j == y else sigmoid(z_j))
                loss += weight * (-math.log(sigmoid(z_j)) if j == y else -math.log(1 - sigmoid(z_j)))
                if j < len(self.positive):
                    (self.positive if j == y else self.negative)[j] += gradient
            losses.append(loss)
        return losses


def regions(seed, count=40, classes=4):
    random = torch.Generator().manual_seed(seed)
    rare = torch.tensor([0.6, 0.2, 0.05, 0.0, 1.0])[: classes + 1]
    labels = torch.multinomial(rare, count, replacement=True, generator=random)
    return torch.randn(count, classes + 1, generator=random), labels, torch.rand(count, generator=random)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_weights_and_losses_equal_a_loop_over_single_logits(seed, weighted):
    fast, slow = EqualizationLoss(4, gamma=9.0, mu=0.5, alpha=3.0), Naive(4, 9.0, 0.5, 3.0)
    for step in range(4):
        logits, labels, weights = regions(seed + step)
        given_weights = weights if weighted else None
        assert fast(logits, labels, given_weights).tolist() == pytest.approx(
            slow(logits, labels, given_weights), rel=1e-4
        )
        assert fast.positive.tolist() == pytest.approx(slow.positive, rel=1e-4)
        assert fast.negative.tolist() == pytest.approx(slow.negative, rel=1e-4)
        for found, expected in zip(
            fast.class_weights(), zip(*(slow.weights(j) for j in range(5)), strict=True), strict=True
        ):
            assert found.tolist() == pytest.approx(list(expected), rel=1e-3, abs=1e-6)


def test_the_defaults_are_the_published_numbers():
    loss = EqualizationLoss(1)
    loss.positive.fill_(0.5)
    loss.negative.fill_(1.0)
    f = sigmoid(12 * (0.5 - 0.8))
    positive, negative = loss.class_weights()
    assert negative.tolist() == pytest.approx([f, 1.0])
    assert positive.tolist() == pytest.approx([1 + 4 * (1 - f), 1.0])


def test_the_accumulated_gradients_are_those_that_reach_the_logits():
    loss = EqualizationLoss(4)
    loss(*regions(0))
    before = loss.positive.clone(), loss.negative.clone()
    logits, labels, weights = regions(1)
    logits.requires_grad_()
    loss(logits, labels, weights).sum().backward()
    own = torch.nn.functional.one_hot(labels, 5).bool()
    assert torch.allclose(loss.positive - before[0], (-logits.grad * own).sum(dim=0)[:-1], atol=1e-5)
    assert torch.allclose(loss.negative - before[1], (logits.grad * ~own).sum(dim=0)[:-1], atol=1e-5)


def test_before_the_first_gradient_it_is_the_plain_binary_cross_entropy():
    logits, labels, _ = regions(3)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.nn.functional.one_hot(labels, 5).float(), reduction="none"
    ).sum(dim=1)
    assert torch.allclose(EqualizationLoss(4)(logits, labels, None), expected)


def test_a_rare_class_is_raised_more_and_lowered_less():
    loss = EqualizationLoss(3)
    loss.positive[:] = torch.tensor([90.0, 50.0, 1.0])
    loss.negative[:] = 100.0
    positive, negative = loss.class_weights()
    assert positive[0] < positive[1] < positive[2] <= 5
    assert negative[0] > negative[1] > negative[2] > 0
    assert positive[3] == negative[3] == 1, "the background keeps its weight"


@pytest.mark.parametrize("extreme", [-200.0, 200.0])
def test_extreme_logits_and_no_region_stay_finite(extreme):
    loss = EqualizationLoss(2)
    for _ in range(3):
        found = loss(torch.full((4, 3), extreme), torch.tensor([0, 1, 2, 0]), None)
        assert found.isfinite().all()
    assert loss(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), None).shape == (0,)
    assert all(w.isfinite().all() for w in loss.class_weights())


def equalized(made, steps=5, *, semi_supervised=False):
    """Return the student and its objective."""
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    inner = (
        objective_of(made, detector, labeled, steps)
        if semi_supervised
        else SupervisedObjective(detector, batches_of(made, labeled))
    )
    return detector, EqualizedObjective(inner, detector, EqualizationLoss(10))


@pytest.mark.parametrize("semi_supervised", [False, True])
def test_going_on_from_any_checkpoint_is_bit_identical(semi_supervised):
    changes = semi(threshold=0.02, class_thresholds=True) if semi_supervised else {"detector.name": "faster_rcnn"}
    more = {"training.class_balance": EQL, "training.checkpoint_seconds": 0, "training.batch_size": 3}
    made = experiment(**{**changes, **more})
    store = MemoryStore()
    detector, objective = equalized(made, semi_supervised=semi_supervised)
    straight = trained_weights(made, detector, objective, store, 5)
    assert objective._loss.negative.min() > 0
    assert [step for step, _ in store.saved] == [1, 2, 3, 4]
    for _, state in store.saved:
        detector, resumed = equalized(made, semi_supervised=semi_supervised)
        weights = trained_weights(made, detector, resumed, MemoryStore(state), 5)
        assert all(torch.equal(straight[key], weights[key]) for key in straight)
        assert torch.equal(objective._loss.positive, resumed._loss.positive)
        assert torch.equal(objective._loss.negative, resumed._loss.negative)
        assert resumed.state().keys() == objective.state().keys()


def test_unlabeled_regions_are_classified_by_it_as_well():
    made = experiment(**{**semi(threshold=0.02), "training.class_balance": EQL})
    detector, objective = equalized(made, semi_supervised=True)
    calls = []
    forward = objective._loss.forward
    objective._loss.forward = lambda logits, labels, weights: calls.append(weights) or forward(logits, labels, weights)
    trained_weights(made, detector, objective, MemoryStore(), 2)
    assert [weights is None for weights in calls] == [True, False, True, False]
    assert detector.module.roi_heads.region_loss is None, "the loss is replaced during a step alone"


def test_a_loss_that_is_not_finite_names_its_images():
    made = experiment(**{"detector.name": "faster_rcnn", "training.class_balance": EQL})
    detector, objective = equalized(made)
    broken = copy.deepcopy(detector.module.roi_heads.box_predictor.cls_score.bias.data)
    detector.module.roi_heads.box_predictor.cls_score.bias.data = broken.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"not finite.*loss_classifier.*images of this batch: \["):
        trained_weights(made, detector, objective, MemoryStore(), 2)
