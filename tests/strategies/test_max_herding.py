"""Each pick of MaxHerding gains most, by the whole matrix of similarities; what is dense comes before what is odd."""

import dataclasses
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import AlloopError
from alloop.testing import make_query
from strategies import max_herding as module
from strategies.k_center import k_center_greedy
from strategies.max_herding import MaxHerding, max_herding


def kernel(features, bandwidth):
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    return np.array([[np.exp(-((np.linalg.norm(a - b) / bandwidth) ** 2)) for b in units] for a in units])


def coverage(matrix, chosen):
    return matrix[:, list(chosen)].max(axis=1).mean() if len(chosen) else 0.0


def naive_gains(matrix, chosen):
    """Return by how much each row would raise the coverage of the chosen ones."""
    before = coverage(matrix, chosen)
    return np.array([coverage(matrix, [*chosen, row]) - before for row in range(len(matrix))])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 25),
    labeled=st.integers(0, 6),
    bandwidth=st.sampled_from([0.2, 1.0, 3.0]),
)
def test_no_candidate_gains_more_than_the_pick(seed, n, labeled, bandwidth):
    chance = np.random.default_rng(seed)
    features = chance.normal(size=(n, 4)).astype(np.float32)
    rows = chance.permutation(n)[: min(labeled, n)].tolist()
    k = n - len(rows)
    picked, gains = max_herding(features, rows, k, bandwidth)
    assert sorted([*picked, *rows]) == list(range(n))
    matrix = kernel(features.astype(float), bandwidth)
    for number, row in enumerate(picked):
        expected = naive_gains(matrix, [*rows, *picked[:number]])
        assert expected[row] == pytest.approx(expected.max(), abs=1e-5), "no other candidate gains more"
        assert gains[number] == pytest.approx(expected[row], abs=1e-5)


@pytest.mark.parametrize("cells", [1, 700])
def test_blocks_change_nothing(monkeypatch, cells):
    features = np.random.default_rng(0).normal(size=(100, 8))
    expected = max_herding(features, [3, 9], 20)
    monkeypatch.setattr(module, "_CELLS", cells)
    picked, gains = max_herding(features, [3, 9], 20)
    assert picked == expected[0]
    assert gains == pytest.approx(expected[1], abs=1e-6)


def test_the_first_pick_is_typical_where_k_center_takes_an_outlier():
    """A dense bundle around one direction, and one image that points away from it."""
    chance = np.random.default_rng(1)
    features = np.concatenate([[1.0, 0, 0] + 0.1 * chance.normal(size=(30, 3)), [[-1.0, 0, 0]]])
    middle = int(np.argmax(kernel(features, 1.0).sum(axis=0)))
    assert max_herding(features, [], 2)[0] == [middle, 30], "then what nothing covers"
    assert k_center_greedy(features, [middle], 1, "cosine") == [30]


def test_a_copy_of_a_labeled_image_gains_least_and_is_picked_last():
    features = np.random.default_rng(2).normal(size=(20, 5))
    features[11] = 3.0 * features[4]
    picked, gains = max_herding(features, [4], 19)
    assert picked[-1] == 11
    assert gains[-1] == pytest.approx(0, abs=1e-6)
    assert (np.diff(gains) <= 1e-6).all(), "gains never grow"


def test_greedy_covers_at_least_what_submodularity_promises():
    features = np.random.default_rng(3).normal(size=(12, 3))
    matrix = kernel(features, 0.5)
    for k in (1, 2, 3, 4):
        best = max(coverage(matrix, chosen) for chosen in combinations(range(12), k))
        assert coverage(matrix, max_herding(features, [], k, 0.5)[0]) >= (1 - 1 / np.e) * best


def test_only_the_terms_that_a_pick_changes_are_computed_again(monkeypatch):
    """Ten tight bundles: after one pick in each, a pick changes the terms of its own bundle alone."""
    chance = np.random.default_rng(4)
    features = np.repeat(np.eye(10), 50, axis=0) + 0.01 * chance.normal(size=(500, 10))
    computed = []
    similarities = module._similarities

    def counted(these, those, bandwidth):
        computed.append(len(these) * len(those))
        return similarities(these, those, bandwidth)

    monkeypatch.setattr(module, "_similarities", counted)
    picked, _ = max_herding(features, [], 30)
    assert {row // 50 for row in picked[:10]} == set(range(10))
    assert sum(computed) < 500 * 500 * (2 + 10 / 2 + 20 / 10)


def test_a_coverage_of_some_images_is_a_mean_over_these():
    features = np.random.default_rng(5).normal(size=(30, 4))
    matrix = kernel(features, 1.0)
    rows = np.array([1, 4, 5, 20, 22])
    (first,), (gain,) = max_herding(features, [], 1, covered_rows=rows)
    assert first == int(np.argmax(matrix[rows].mean(axis=0)))
    assert gain == pytest.approx(matrix[rows].mean(axis=0).max(), abs=1e-6)
    query = make_query(distinct=40)
    drawn = MaxHerding(covered=20)._covered(query, labeled=12, candidates=60)
    assert len(set(drawn)) == 20
    assert 12 <= drawn.min() <= drawn.max() < 72, "labeled rows come first and cover themselves"
    assert drawn.max() >= 60
    some = MaxHerding(covered=20).select(query)
    assert some.image_ids == MaxHerding(covered=20).select(query).image_ids
    assert some.image_ids != MaxHerding().select(query).image_ids
    assert MaxHerding(covered=None).select(query).image_ids == MaxHerding().select(query).image_ids


def test_bad_arguments_are_refused():
    features = np.ones((3, 2))
    with pytest.raises(AlloopError, match="asked for 3 rows, 2 are not labeled"):
        max_herding(features, [1], 3)
    features[2, 0] = np.nan
    with pytest.raises(AlloopError, match="features of row 2 are not finite"):
        max_herding(features, [], 1)
    for bandwidth in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="bandwidth: expected a number above 0"):
            MaxHerding(bandwidth=bandwidth)
    with pytest.raises(ValueError, match="covered: expected 1 or more, found 0"):
        MaxHerding(covered=0)
    zeros = np.zeros((3, 2))
    assert max_herding(zeros, [], 3)[0] == [0, 1, 2], "images without a feature are all alike"


def test_the_head_of_a_ranking_does_not_depend_on_its_length():
    query = make_query(distinct=40)
    long = MaxHerding().select(dataclasses.replace(query, count=30))
    short = MaxHerding().select(dataclasses.replace(query, count=7))
    assert long.image_ids[:7] == short.image_ids
