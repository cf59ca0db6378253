"""Coverage-centric selection by hand."""

import dataclasses

import numpy as np
import pytest

from strategies.ccs import Ccs, budgets, coverage, hardest, strata
from tests.support.scripted import scripted


def test_coverage_by_hand():
    scores = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 9.0, 9.9, 10.0])
    assert hardest(scores, 0.25, 4).tolist() == [0, 1]
    assert hardest(scores, 0.9, 6).tolist() == [0, 1], "at least k images are left"
    assert strata(np.array([0.0, 1.0, 5.0, 10.0]), 10).tolist() == [0, 0, 4, 9]
    assert strata(np.array([-10.0, -6.0, -1e-9]), 2).tolist() == [0, 0, 1]
    assert strata(np.array([3.0, 3.0]), 50).max() < 50
    assert strata(np.zeros(4), 50).tolist() == [0] * 4
    assert budgets(np.array([1, 10, 3, 0]), 8).tolist() == [1, 4, 3, 0]
    assert budgets(np.array([5, 5]), 4).tolist() == [2, 2]
    assert budgets(np.array([2, 3]), 5).tolist() == [2, 3]
    drawn = coverage(scores, 3, 0.25, 3, np.random.default_rng(0))
    assert len(set(drawn)) == 3
    assert sorted(np.searchsorted([1, 6], scores[drawn])) == [0, 1, 2] or set(drawn) <= set(range(2, 8))


@pytest.mark.parametrize("k", [1, 7, 50, 95, 100])
def test_coverage_draws_exactly_what_is_asked_and_cuts_the_hardest(k):
    scores = np.random.default_rng(0).normal(size=100) - 20  # negative scores keep their largest, too
    drawn = coverage(scores, k, 0.1, 50, np.random.default_rng(1))
    assert len(set(drawn.tolist())) == k
    if k <= 90:
        assert not set(drawn) & set(np.argsort(scores)[:10])


def test_coverage_reaches_over_the_whole_range():
    logits = {i: [float(np.log((61 + i) / (61 - i)))] for i in range(1, 61)}  # margins of i / 61
    asked = scripted(logits, dict.fromkeys(logits, 1), count=12)
    chosen = sorted(Ccs(annotations="true", strata=6).select(asked).image_ids)
    assert chosen[0] > 6, "the hardest tenth is cut"
    assert all(any(low < i <= low + 11 for i in chosen) for low in (6, 17, 28, 39, 49))
    other = dataclasses.replace(asked, random_seed=4)
    assert sorted(Ccs(annotations="true", strata=6).select(other).image_ids) != chosen
