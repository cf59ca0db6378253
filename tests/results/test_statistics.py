"""Intervals and tests by hand, and how often they are wrong where the truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from alloop.results.statistics import (
    RESAMPLES,
    bootstrap_interval,
    detectable,
    detectable_shift,
    holm,
    min_p,
    sign_flip_p,
    significance,
    spread_factors,
    t_band,
    t_interval,
    wilcoxon_p,
)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lowers_nothing(p_values):
    corrected = holm(p_values)
    assert all(new >= old for new, old in zip(corrected, p_values, strict=True))
    assert all(new <= 1 for new in corrected)
    for a, b in itertools.combinations(range(len(corrected)), 2):
        assert p_values[a] >= p_values[b] or corrected[a] <= corrected[b]


def test_signs_are_flipped_in_every_way():
    values = [0.3, 0.1, 0.2, 0.4]
    means = [np.mean(np.array(signs) * values) for signs in itertools.product([1, -1], repeat=4)]
    expected = np.mean(np.abs(means) >= np.mean(values) - 1e-12)
    assert sign_flip_p(values) == pytest.approx(expected) == pytest.approx(2 / 16)
    assert sign_flip_p([0.1] * 6) == pytest.approx(2 / 64)
    assert sign_flip_p([0.1, -0.1]) == 1
    assert sign_flip_p(list(np.linspace(0.1, 1, 20))) < 1e-3
    assert sign_flip_p([0.1]) is None


def test_ranks_and_bootstrap():
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 64)
    assert wilcoxon_p([0.0, 0.0]) == 1
    assert wilcoxon_p([0.1]) is bootstrap_interval([0.1]) is None
    values = np.random.default_rng(1).normal(0.5, 1, 200).tolist()
    low, high = bootstrap_interval(values)
    t_low, t_high = t_interval(values)[0]
    assert (low, high) == pytest.approx((t_low, t_high), abs=0.02)
    assert bootstrap_interval(values) == (low, high)


def test_the_detectable_difference_is_detected_with_its_power():
    random = np.random.default_rng(0)
    sample = random.normal(0, 0.02, 5)
    spread, smallest = float(np.std(sample, ddof=1)), detectable(sample)
    hits = sum(t_interval(random.normal(smallest, spread, 5))[1] < 0.05 for _ in range(4000))
    assert hits / 4000 == pytest.approx(0.8, abs=0.03)
    assert detectable([0.1]) is None
    assert detectable([0.1, 0.1]) == 0
    assert detectable(np.tile(sample, 4)) < smallest


@pytest.mark.parametrize(("test", "seeds", "comparisons"), [("t", 3, 5), ("permutation", 8, 3), ("wilcoxon", 10, 2)])
def test_the_detectable_difference_is_that_of_the_verdict(test, seeds, comparisons):
    """A verdict asks for 5 % divided by the number of comparisons (Holm's first step), by the test that gives it."""
    random = np.random.default_rng(1)
    shift = detectable_shift(seeds, 0.05 / comparisons, test)
    samples = shift + random.normal(size=(1500, seeds))
    hits = sum(significance(values.tolist(), test)[1] * comparisons < 0.05 for values in samples)
    assert hits / 1500 == pytest.approx(0.8, abs=0.04)
    values = samples[0].tolist()
    assert detectable(values, comparisons, test) == pytest.approx(shift * np.std(values, ddof=1))
    assert detectable(values, comparisons, test) > detectable(values, 1, test)


@pytest.mark.parametrize("test", ["permutation", "wilcoxon"])
def test_too_few_seeds_detect_nothing_whatever_the_difference(test):
    assert detectable([0.1, 0.2, 0.3, 0.4, 0.5], 1, test) is None, "the smallest p-value of five signs is 0.0625"
    assert detectable([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, test) is not None
    assert detectable([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 2, test) is None
    for n in range(2, 9):
        assert min_p(n) == pytest.approx(significance(list(range(1, n + 1)), test)[1])


def test_the_true_spread_lies_between_the_factors():
    random = np.random.default_rng(0)
    for n in (3, 5, 10):
        measured = random.normal(size=(20_000, n)).std(axis=1, ddof=1)
        least, greatest = spread_factors(n)
        assert np.mean(measured * greatest < 1) == pytest.approx(0.025, abs=0.004)
        assert np.mean(measured * least > 1) == pytest.approx(0.025, abs=0.004)


def test_equal_values_show_no_spread_to_judge_by():
    """Two seeds whose gaps are equal by rounding would be certain otherwise."""
    assert t_interval([0.25, 0.25]) == (None, None)
    assert t_interval([0.0, 0.0]) == ((0.0, 0.0), 1.0)


@pytest.mark.parametrize("test", ["t", "permutation"])
def test_identical_strategies_are_rarely_called_different(test):
    random = np.random.default_rng(2)
    wrong = sum((significance(random.normal(0, 1, 7).tolist(), test)[1] or 1) < 0.05 for _ in range(400))
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


@settings(max_examples=40)
@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8).filter(lambda values: np.std(values) > 1e-6))
def test_students_interval_agrees_with_scipy(values):
    expected = stats.ttest_1samp(values, 0)
    (low, high), p = t_interval(values)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9, abs=1e-12)
    assert p == pytest.approx(expected.pvalue, rel=1e-9)


def test_the_bootstrap_interval_agrees_with_scipy():
    values = np.random.default_rng(4).normal(0.1, 0.2, 9)
    random = np.random.default_rng(0)
    expected = stats.bootstrap((values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=random)
    assert bootstrap_interval(values) == pytest.approx(tuple(expected.confidence_interval), abs=1e-12)


def test_a_band_is_the_interval_at_each_point():
    curves = np.random.default_rng(0).normal(size=(5, 7))
    expected = np.array([t_interval(column.tolist())[0] for column in curves.T]).T
    assert t_band(curves) == pytest.approx(expected)
    assert np.array_equal(t_band(np.full((3, 2), 0.5)), np.full((2, 2), 0.5)), "without spread the band is the line"
