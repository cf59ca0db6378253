"""Norms that convolutions do are the same function and the same gradients as norms of their own."""

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from alloop.detectors.torchvision.folding import absorb_frozen_norms, fold_norms
from tests.support.detectors import make
from tests.support.frozen import random_norms, random_weights

BACKBONES = ["mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnet50", "tiny"]


def plain(module):
    """Return a copy in which every norm does its own work again: torchvision's classes."""
    result = copy.deepcopy(module)
    for child in result.modules():
        if type(child).__name__ == "_NormedConv2d":
            child.__class__ = nn.Conv2d
        if type(child).__name__ == "_SilentNorm":
            child.__class__ = FrozenBatchNorm2d
    return result


def close(a, b, rtol):
    return float((a - b).detach().abs().max()) <= rtol * float(b.detach().abs().max())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_detector_computes_and_learns_what_torchvision_s_own_norms_would(backbone, tmp_path):
    detector = make("retinanet", backbone, weights=random_weights(backbone, tmp_path))
    module = detector.module.double()
    random_norms(module)
    other = plain(module)
    assert sum(type(m) is FrozenBatchNorm2d for m in other.modules()) > 3
    assert not any(type(m) is FrozenBatchNorm2d for m in module.modules())
    assert module.state_dict().keys() == other.state_dict().keys()
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    for mine, theirs in zip(module.backbone(images).values(), other.backbone(images).values(), strict=True):
        assert close(mine, theirs, 1e-10)
    for network in (module, other):
        sum(level.square().mean() for level in network.backbone(images).values()).backward()
    for (name, mine), theirs in zip(module.named_parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None), name
        if mine.grad is not None:
            assert close(mine.grad, theirs.grad, 1e-8), name


@pytest.mark.parametrize("weights", ["none", "random"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_scoring_copy_computes_the_same_and_holds_no_norm(backbone, weights, tmp_path):
    weights = "none" if weights == "none" else random_weights(backbone, tmp_path)
    detector = make("fcos", backbone, weights=weights)
    module = detector.module.double()
    random_norms(module)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    folded = detector.scoring_copy().module
    assert not any(isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d) for m in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    module.eval()
    for mine, theirs in zip(folded.backbone(images).values(), module.backbone(images).values(), strict=True):
        assert close(mine, theirs, 1e-9)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_a_norm_that_follows_no_convolution_stays():
    module = nn.Sequential(nn.ReLU(), FrozenBatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), FrozenBatchNorm2d(4))
    random_norms(module)
    x = torch.rand(2, 3, 5, 5)
    for change in (absorb_frozen_norms, fold_norms):
        changed = change(copy.deepcopy(module))
        assert [type(child) for child in changed] == [type(child) for child in module]
        assert torch.equal(changed(x), module(x))


def test_a_convolution_with_a_bias_keeps_it():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=2), FrozenBatchNorm2d(4)).double()
    random_norms(module)
    x = torch.rand(2, 3, 9, 9, dtype=torch.float64)
    for change in (absorb_frozen_norms, fold_norms):
        assert close(change(copy.deepcopy(module))(x), module(x), 1e-12)


def test_copies_of_an_absorbed_norm_are_their_own():
    module = absorb_frozen_norms(nn.Sequential(nn.Conv2d(3, 4, 1), FrozenBatchNorm2d(4)).double())
    other = copy.deepcopy(module)
    with torch.no_grad():
        other[1].bias.add_(1)
    x = torch.rand(1, 3, 2, 2, dtype=torch.float64)
    assert close(other(x), module(x) + 1, 1e-12)


def test_weights_loaded_after_building_reach_the_convolutions(tmp_path):
    detector = make("fcos", "mobilenet_v3_small", weights=random_weights("mobilenet_v3_small", tmp_path))
    state = copy.deepcopy(detector.module.state_dict())
    random_norms(detector.module)
    x = torch.rand(1, 3, 64, 64)
    changed = detector.module.backbone(x)["0"]
    detector.module.load_state_dict(state)
    assert not torch.allclose(detector.module.backbone(x)["0"], changed)
