"""RFS and CrS by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.training.repeat_factors import class_frequencies, class_repeats, image_repeats, pseudo_labeled_repeats


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
