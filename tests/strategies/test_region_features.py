"""Features of regions."""

import numpy as np
import pytest
import torch

from alloop.query import Need
from strategies.csod import Csod
from strategies.region_features import class_gradient
from strategies.talisman import Talisman


def test_gradients_equal_autograd():
    random = np.random.default_rng(1)
    vectors, labels = random.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0])
    weight = torch.tensor(random.normal(size=(4, 3)), requires_grad=True)
    with torch.no_grad():
        probabilities = (torch.tensor(vectors) @ weight.T).softmax(dim=1).numpy()
    found = class_gradient(vectors, probabilities, labels)
    for row in range(5):
        loss = torch.nn.functional.cross_entropy(torch.tensor(vectors[row]) @ weight.T, torch.tensor(labels[row]))
        (expected,) = torch.autograd.grad(loss, weight)
        assert found[row] == pytest.approx(expected.numpy().reshape(-1))


def test_needs_follow_the_features():
    assert Need.CLASSIFIER_FEATURES in Csod(features="gradient").needs
    assert Need.CLASSIFIER_FEATURES not in Csod().needs
    assert Need.CLASSIFIER_FEATURES in Talisman(features="classifier").needs
