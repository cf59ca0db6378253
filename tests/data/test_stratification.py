"""Stratification: its first part equals a slow one, its second part leaves no move that helps, no split is empty."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloop.data import stratification
from alloop.data.stratification import FARTHEST, LEAST, Amounts, _iterative, stratified

DYADIC = st.sampled_from([(0.5, 0.25, 0.25), (0.75, 0.25), (0.5, 0.125, 0.375)])  # sums of them are exact
SHARES = st.sampled_from([(0.7, 0.1, 0.2), (0.8, 0.2), (1 / 3, 1 / 3, 1 / 3), (0.9, 0.05, 0.05)])
LAWS = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _few_attempts(monkeypatch):
    """The laws hold for every attempt, and a hundred of them take long where all shapes are checked."""
    monkeypatch.setattr(stratification, "MOST_ATTEMPTS", 3)


def amounts_of(table):
    """Return the amounts of a matrix, group by group."""
    groups, columns = np.nonzero(table)
    times = table[groups, columns]
    return Amounts.counted(np.repeat(groups, times), np.repeat(columns, times), len(table), table.shape[1])


@st.composite
def tables(draw, least=3, most=14, classes=4):
    """Return boxes of each class and images, for each group."""
    rows = draw(st.integers(least, most))
    boxes = st.lists(st.sampled_from([0, 0, 0, 1, 2, 5]), min_size=classes, max_size=classes)
    return np.array([[*draw(boxes), draw(st.integers(1, 4))] for _ in range(rows)])


def slow_iterative(table, shares):
    lacking = {(i, j): s * table[:, i].sum() for i in range(table.shape[1]) for j, s in enumerate(shares)}
    left, split_of, last = list(range(len(table))), {}, table.shape[1] - 1
    while left:
        holders = {i: [g for g in left if table[g, i]] for i in range(table.shape[1])}
        rarest = min((i for i in holders if holders[i]), key=lambda i: len(holders[i]))
        for g in holders[rarest]:
            split_of[g] = max(range(len(shares)), key=lambda j: (lacking[rarest, j], lacking[last, j]))
            for i in range(table.shape[1]):
                lacking[i, split_of[g]] -= table[g, i]
            left.remove(g)
    return [split_of[g] for g in range(len(table))]


@LAWS
@given(tables(), DYADIC)
def test_the_first_part_is_iterative_stratification_as_a_slow_one_does_it(table, shares):
    assert _iterative(amounts_of(table), np.array(shares)).tolist() == slow_iterative(table, shares)


def gaps_and_deviation(table, splits, shares):
    """Count columns without a group in a split, and add up the deviations, from nothing but the definition."""
    used = table[:, table.sum(axis=0) > 0]
    held = np.array([used[splits == j].sum(axis=0) for j in range(len(shares))])
    off = held / used.sum(axis=0) - np.array(shares)[:, None]
    weights = np.ones(used.shape[1])
    weights[-1] = max(1, used.shape[1] - 1)
    return int((held == 0).sum()), float((weights * off**2).sum()), off[:, -1]


@LAWS
@given(tables(), SHARES, st.integers(0, 5))
def test_at_the_end_no_move_of_a_group_closes_a_gap_or_lowers_the_deviation(table, shares, seed):
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    gaps, deviation, _ = gaps_and_deviation(table, splits, shares)
    farthest = max(FARTHEST, (table[:, -1] / table[:, -1].sum()).max()) + 1e-9
    for group in range(len(table)):
        for split in range(len(shares)):
            moved = splits.copy()
            moved[group] = split
            gaps_then, deviation_then, images = gaps_and_deviation(table, moved, shares)
            too_far = images[split] > farthest or images[splits[group]] < -farthest
            closes = gaps_then < gaps and not too_far
            lowers = gaps_then == gaps and deviation_then < deviation - 1e-9
            assert splits[group] == split or not (closes or lowers), (group, split)
    assert LEAST < 1e-9


@LAWS
@given(tables(), SHARES, st.integers(0, 5))
def test_each_group_has_a_split_and_no_split_is_empty(table, shares, seed):
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    assert sorted(set(splits.tolist())) == list(range(len(shares)))
    assert len(splits) == len(table)
    again = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    assert again.tolist() == splits.tolist()


@LAWS
@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), SHARES, st.integers(0, 5))
def test_a_class_is_in_each_split_whose_share_of_it_is_at_least_one_image_where_images_have_one_class(
    sizes, shares, seed
):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if len(labels) * min(shares) < 1:  # to fill every split comes first
        return
    table = np.concatenate([np.eye(len(sizes), dtype=int)[labels], np.ones((len(labels), 1), int)], axis=1)
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    for label, size in enumerate(sizes):
        for split, share in enumerate(shares):
            found = int((splits[labels == label] == split).sum())
            assert found > 0 or share * size < 1


@LAWS
@given(st.lists(st.integers(1, 9), min_size=10, max_size=40), SHARES, st.integers(0, 5))
def test_with_one_class_each_split_is_within_one_largest_group_of_its_share(sizes, shares, seed):
    table = np.array(sizes)[:, None]
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    for split, share in enumerate(shares):
        assert abs(table[splits == split].sum() - share * table.sum()) <= max(sizes) + 1e-9


@LAWS
@given(tables(least=6, most=40), SHARES, st.integers(0, 5))
def test_the_images_of_a_split_stay_near_its_share_whatever_the_classes(table, shares, seed):
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(seed))
    _, _, images = gaps_and_deviation(table, splits, shares)
    largest = (table[:, -1] / table[:, -1].sum()).max()
    assert abs(images).max() <= FARTHEST + 2 * largest


def test_amounts_count_units_and_keep_them_in_another_order():
    amounts = Amounts.counted(np.array([1, 0, 1, 1]), np.array([2, 2, 0, 2]), 2, 3)
    assert [[part.tolist() for part in amounts.of(group)] for group in (0, 1)] == [[[2], [1]], [[0, 2], [1, 2]]]
    assert amounts.totals().tolist() == [1, 0, 3]
    turned = amounts.in_order(np.array([1, 0]))
    assert [turned.of(group)[1].tolist() for group in (0, 1)] == [[1, 2], [1]]


def test_gaps_are_not_closed_at_the_price_of_splits_of_another_size_than_was_wished():
    neighbours = np.array([[(row - column) % 30 < 3 for column in range(30)] for row in range(30)], dtype=int)
    table = np.concatenate([neighbours, np.ones((30, 1), int)], axis=1)
    shares = (0.7, 0.1, 0.2)
    splits = stratified(amounts_of(table), np.array(shares), np.random.default_rng(0))
    gaps, _, images = gaps_and_deviation(table, splits, shares)
    assert abs(images).max() <= FARTHEST + 1e-9
    assert gaps > 0
    assert gaps_and_deviation(table, np.arange(30) % 3, shares)[0] == 0, "thirds would leave no gap"
