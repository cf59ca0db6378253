"""Learning loss: the order of predicted losses, among all images or among some that are drawn."""

import numpy as np
import pytest

from alloop.testing import make_query
from strategies.learning_loss import LearningLoss


def test_the_largest_predicted_losses_come_first():
    query = make_query(count=8)
    selection = LearningLoss().select(query)
    losses = query.detector.loss_predictions(sorted(query.unlabeled))
    assert selection.utilities == pytest.approx(np.sort(losses)[::-1][:8])


def test_only_the_images_that_are_drawn_are_ranked():
    query = make_query(count=20)
    selection = LearningLoss(subset=12).select(query)
    losses = query.detector.loss_predictions(selection.image_ids)
    assert (np.diff(losses[:12]) <= 0).all(), "those that were drawn come first, ranked"
    assert selection.utilities[:12] == pytest.approx(losses[:12])
    assert (selection.utilities[12:] == selection.utilities[:12].min()).all(), "the others have no utility of their own"
    again = LearningLoss(subset=12).select(query)
    assert again.image_ids == selection.image_ids
    every = LearningLoss(subset=10_000).select(query)
    assert every.image_ids == LearningLoss().select(query).image_ids


@pytest.mark.parametrize("wrong", [{"subset": 0}, {"detach_from": 1.5}, {"detach_from": -0.1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LearningLoss(**wrong)
