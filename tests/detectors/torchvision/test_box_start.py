"""The size that FCOS's boxes begin with: a box head whose outputs are all negative never learns."""

import pytest
import torch

from alloop.config.reading import parse_config
from alloop.detectors.torchvision.catalogue import FCOS
from alloop.errors import ConfigError
from tests.support import small_tree

SMALL = {"backbone": "tiny", "weights": "none", "channels": 32, "tower_convs": 1, "short_side": 64, "long_side": 64}


def box_loss(**changes):
    """Return the box loss of a new detector, and its gradient in the last layer, whose weights are all negative."""
    torch.manual_seed(0)
    detector = FCOS(**SMALL, **changes).build(2)
    last = detector.module.head.regression_head.bbox_reg
    with torch.no_grad():
        last.weight.copy_(-last.weight.abs())
    target = {"boxes": torch.tensor([[10.0, 12.0, 40.0, 44.0]]), "labels": torch.tensor([1])}
    detector.module.train()
    loss = detector.losses([torch.rand(3, 64, 64)], [target])["bbox_regression"].sum()
    loss.backward()
    return float(loss.detach()), float(last.weight.grad.abs().sum())


def test_from_the_start_of_torchvision_a_box_head_may_never_learn():
    loss, gradient = box_loss()
    assert loss == 1.0, "the loss of boxes of size 0, which status knows as that of a training that failed"
    assert gradient == 0.0


def test_boxes_that_begin_with_a_size_learn():
    loss, gradient = box_loss(box_start=1.0)
    assert loss < 1.0
    assert gradient > 0.0


def test_the_first_boxes_reach_that_many_strides_to_each_side():
    torch.manual_seed(0)
    head = FCOS(**SMALL, box_start=1.5).build(2).module.head
    features = [torch.rand(1, 32, 8, 8), torch.rand(1, 32, 4, 4)]
    distances = head(features)["bbox_regression"]
    assert distances.detach().mean() == pytest.approx(1.5, abs=0.1)


def test_what_nobody_sets_is_as_it_was():
    """The weights, and the hash of what a model was trained with, are those of a detector without the parameter."""
    torch.manual_seed(0)
    assert not FCOS(**SMALL).build(2).module.head.regression_head.bbox_reg.bias.any()
    block = parse_config(small_tree()).detector
    assert "box_start" not in block.with_siblings()
    assert parse_config(small_tree(**{"detector.box_start": 1.0})).detector.with_siblings()["box_start"] == 1.0


def test_the_variant_of_isal_needs_none():
    with pytest.raises(ConfigError, match="box_start: the box head of variant isal ends in an exponential"):
        FCOS(**SMALL, variant="isal", box_start=1.0).build(2)
