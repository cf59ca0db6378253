"""CrS: images of rare pseudo-labels are shown more often."""

import numpy as np

from tests.support.semi_supervised import semi, spied, trained
from tests.support.training import MemoryStore, experiment


def test_rare_pseudo_boxes_bring_their_images_back():
    """CrS end to end: after a counting, images whose pseudo-boxes are of a rare class are shown more often."""
    made = experiment(**semi(resampling=True, resampling_constant=500.0, refresh=0.5))
    _, objective = trained(made, MemoryStore(), steps=12)
    repeats = [record["mean_repeat"] for record in objective.log.records]
    assert repeats[0] == 1.0
    assert repeats[-1] > 1.0


def test_frequencies_of_labeled_and_pseudo_labeled_images_count_together():
    """CrS by hand: class 9 is on one of the 10 + 2 images, class 0 on all others."""
    made, _, objective = spied(0.0, resampling=True, resampling_constant=48.0, refresh=0.1)
    objective._labeled.labels = [np.zeros(1, dtype=np.int64)] * 10
    objective.resampling.latest = {3: (np.array([9]), np.array([0.3])), 5: (np.array([0]), np.array([0.3]))}
    objective._resample(5)
    # r_9 = sqrt(48 * 0.5 / (1 / 12)) = 17, times 0.3 is 5.1; r_0 = sqrt(24 * 12 / 11) = 5.1, times 0.3 is 1.5
    assert objective._unlabeled.repeats[3] == 6
    assert objective._unlabeled.repeats[5] == 2
    assert objective._unlabeled.repeats.sum() == 6 + 2 + len(made.splits.train.dataset.images) - 10 - 2
    assert objective._unlabeled.since == 5
