"""Pooled regions are torchvision's, and so are the gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import MultiScaleRoIAlign

from alloop.detectors.torchvision import region_pooling
from alloop.detectors.torchvision.region_pooling import RegionPooling

NAMES = ["0", "1", "2"]
STRIDES = {"0": 4, "1": 8, "2": 16}


def scene(seed, images, levels, regions, height=96, width=128):
    generator = torch.Generator().manual_seed(seed)
    features = {
        str(k): torch.randn(images, 3, height >> (2 + k), width >> (2 + k), generator=generator) for k in range(levels)
    }
    boxes = []
    for count in regions:
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([width * 1.2, height * 1.2]) - 10
        side = torch.rand(count, 2, generator=generator) * 90
        boxes.append(torch.cat([corner, corner + side], dim=1))
    return features, boxes, [(height, width)] * images


def pooled(cls, features, boxes, shapes, cells, samples, names=NAMES):
    given_ = {name: level.clone().requires_grad_() for name, level in features.items()}
    names = names[: len(features)]
    levels = {name: STRIDES[name] for name in names} if cls is RegionPooling else names
    pool = cls(levels, cells, samples)
    result = pool(given_, boxes, shapes)
    weights = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
    gradients = torch.autograd.grad((result * weights).sum(), list(given_.values()), allow_unused=True)
    return result, gradients


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    levels=st.integers(1, 3),
    regions=st.lists(st.integers(0, 9), min_size=1, max_size=3).filter(any),
    cells=st.sampled_from([1, 2, 7]),
    samples=st.sampled_from([1, 2, 3]),
)
def test_outputs_are_equal_and_gradients_equal_but_for_rounding(seed, levels, regions, cells, samples):
    features, boxes, shapes = scene(seed, len(regions), levels, regions)
    mine, own = pooled(RegionPooling, features, boxes, shapes, cells, samples)
    theirs, gradients = pooled(MultiScaleRoIAlign, features, boxes, shapes, cells, samples)
    assert torch.equal(mine, theirs)
    for a, b in zip(own, gradients, strict=True):
        assert torch.allclose(a, torch.zeros_like(a) if b is None else b, atol=1e-4)


def test_no_region_at_all_gives_no_gradient():
    features, boxes, shapes = scene(0, 2, 3, [0, 0])
    result, gradients = pooled(RegionPooling, features, boxes, shapes, 7, 2)
    assert result.shape == (0, 3, 7, 7)
    assert all(not gradient.any() for gradient in gradients)


def test_large_maps_take_torchvision_s_gradient(monkeypatch):
    features, boxes, shapes = scene(0, 1, 2, [4])

    def refused(*_):
        raise AssertionError

    monkeypatch.setattr(region_pooling, "LARGEST_MAP", 24 * 32 - 1)
    monkeypatch.setattr(region_pooling, "_feature_gradient", refused)
    pooled(RegionPooling, features, boxes, shapes, 7, 2)
    monkeypatch.setattr(region_pooling, "LARGEST_MAP", 24 * 32)
    with pytest.raises(AssertionError):
        pooled(RegionPooling, features, boxes, shapes, 7, 2)


def test_without_a_gradient_nothing_else_is_done(monkeypatch):
    features, boxes, shapes = scene(0, 1, 2, [4])
    monkeypatch.setattr(region_pooling._Pooled, "apply", None)
    pool = RegionPooling({"0": 4, "1": 8}, 7, 2)
    assert torch.equal(pool(features, boxes, shapes), MultiScaleRoIAlign(NAMES[:2], 7, 2)(features, boxes, shapes))


def test_an_image_much_smaller_than_its_padded_sides_changes_no_stride():
    features, boxes, shapes = scene(0, 1, 3, [9], height=64, width=64)
    mine = RegionPooling(STRIDES, 7, 2)
    mine({name: level[..., :8, :8] for name, level in features.items()}, boxes, [(10, 10)])
    assert torch.equal(mine(features, boxes, shapes), MultiScaleRoIAlign(NAMES, 7, 2)(features, boxes, shapes))
