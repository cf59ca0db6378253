"""Random is uniform."""

import numpy as np

from alloop.strategy import make_strategy
from alloop.testing import make_query
from strategies import TABLE


def test_random_is_uniform():
    counts = {}
    for seed in range(400):
        for image_id in make_strategy("random", {}, TABLE).select(make_query(random_seed=seed)).image_ids:
            counts[image_id] = counts.get(image_id, 0) + 1
    expected = 400 * 9 / 60
    assert len(counts) == 60
    assert max(abs(c - expected) for c in counts.values()) < 5 * np.sqrt(expected)
