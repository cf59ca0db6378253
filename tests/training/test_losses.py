"""A loss that is not finite is found with its images, at once or one step late, before anything is stored."""

import math

import pytest
import torch

from alloop.errors import TrainingError
from alloop.training.losses import LossReader, StepLoss
from alloop.values import ImageId

CPU = torch.device("cpu")


def loss(value, step=3, ids=(7, 5, 7)):
    terms = {"classification": torch.tensor([1.0, 2.0, value]), "boxes": torch.tensor([0.5, 0.0, 0.0])}
    return StepLoss(terms, step, [ImageId(i) for i in ids])


class Late(LossReader):
    """Reads one step late, as on a GPU, without one."""

    def add(self, loss):
        self._pending = loss, torch.stack([term.sum() for term in loss.terms.values()]), None


def test_the_loss_is_the_sum_over_terms_and_images():
    reader = LossReader(CPU)
    assert reader.latest == 0.0
    reader.add(loss(4.0))
    assert reader.latest == 7.5


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_names_step_terms_and_images(value):
    with pytest.raises(TrainingError, match=r"step 3 .*classification.*\[5, 7\]"):
        LossReader(CPU).add(loss(value))


def test_read_late_it_is_named_as_well_and_only_once():
    reader = Late(CPU)
    reader.add(loss(math.nan, step=8, ids=(1, 2)))
    with pytest.raises(TrainingError, match=r"step 8 .*\[1, 2\]"):
        reader.check()
    reader.check()
    reader.add(loss(1.0))
    assert reader.latest != 4.5
    reader.check()
    assert reader.latest == 4.5


def test_two_infinite_terms_that_cancel_are_found():
    terms = {"a": torch.tensor([math.inf]), "b": torch.tensor([-math.inf])}
    with pytest.raises(TrainingError):
        LossReader(CPU).add(StepLoss(terms, 0, [ImageId(1)]))
