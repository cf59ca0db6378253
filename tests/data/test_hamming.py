"""The search for near hashes, checked against comparing every hash with every other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data import hamming
from alloop.data.hamming import hamming_distance, near_groups, near_pairs, nearest


def distance(a, b):
    return (int(a) ^ int(b)).bit_count()


@st.composite
def clustered(draw, most=40):
    """Hashes of which many are equal or differ from another in a few bits, as those of copies do."""
    hashes = draw(st.lists(st.integers(0, 2**64 - 1), min_size=0, max_size=6))
    for _ in range(draw(st.integers(0, most)) if hashes else 0):
        value = draw(st.sampled_from(hashes))
        for bit in draw(st.lists(st.integers(0, 63), max_size=7)):
            value ^= 1 << bit
        hashes.append(value)
    return np.array(hashes, dtype=np.uint64)


@pytest.fixture(params=[None, *range(3, 12)], ids=lambda count: f"{count or 'chosen'} blocks")
def blocks(request, monkeypatch):
    """Every number of blocks, also those that would never be chosen for so few hashes."""
    if request.param is not None:
        monkeypatch.setattr(hamming, "_best_blocks", lambda _q, _h, radius: hamming._blocks(request.param, radius))
        monkeypatch.setattr(hamming, "_CHUNK", 3)
        monkeypatch.setattr(hamming, "_MERGED", 2)


def property_test(*arguments):
    """A fixture that is the same for every example is safe to share."""
    from hypothesis import HealthCheck, settings

    def decorated(function):
        once = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
        return settings(suppress_health_check=once, max_examples=25, deadline=None)(given(*arguments)(function))

    return decorated


@property_test(clustered(), st.integers(0, 7))
def test_pairs_are_those_of_the_quadratic_search(blocks, hashes, radius):
    found = list(zip(*(part.tolist() for part in near_pairs(hashes, radius)), strict=True))
    n = len(hashes)
    every = ((i, j, distance(hashes[i], hashes[j])) for i in range(n) for j in range(i + 1, n))
    assert found == [pair for pair in every if pair[2] <= radius]


@property_test(clustered(), st.integers(0, 7))
def test_groups_are_what_is_reached_by_walking_from_near_to_near(blocks, hashes, radius):
    n = len(hashes)
    labels = list(range(n))
    for _ in range(n):
        for i in range(n):
            labels[i] = min(labels[j] for j in range(n) if distance(hashes[i], hashes[j]) <= radius)
    assert near_groups(hashes, radius).tolist() == labels


@property_test(clustered(15), clustered(15), st.integers(0, 7))
def test_the_nearest_is_the_first_among_the_least_distances(blocks, queries, hashes, radius):
    rows, distances = nearest(queries, hashes, radius)
    for query, row, found in zip(queries, rows, distances, strict=True):
        near = [(distance(query, value), number) for number, value in enumerate(hashes)]
        least = min((pair for pair in near if pair[0] <= radius), default=(255, -1))
        assert (int(found), int(row)) == least


def test_a_set_within_another_is_found_at_any_distance_of_a_realistic_number():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**64, 3000, dtype=np.uint64)
    for radius in (0, 1, 4, 10):
        moved = hashes.copy()
        for row in range(len(moved)):
            for bit in random.choice(64, radius, replace=False):
                moved[row] ^= np.uint64(1) << np.uint64(bit)
        rows, distances = nearest(moved, hashes, radius)
        assert (distances <= radius).all()
        assert (rows == np.arange(3000)).mean() > 0.99
        if radius:
            assert (nearest(moved, hashes, radius - 1)[0] == -1).mean() > 0.99


def test_thousands_of_equal_hashes_are_one_group_without_a_list_of_their_pairs(monkeypatch):
    monkeypatch.setattr(hamming, "_near", lambda *_args, **_kwargs: iter(()))  # it sees one hash, so it has no pair
    assert (near_groups(np.full(100_000, 77, dtype=np.uint64), 10) == 0).all()


@pytest.mark.parametrize("radius", range(25))
@pytest.mark.parametrize("count", range(3, 17))
def test_the_blocks_cover_the_hash_and_their_radii_obey_the_pigeonhole_principle(count, radius):
    blocks = hamming._blocks(count, radius)
    assert sum(block.radius + 1 for block in blocks) == radius + 1, "one bit more than the radius fills them all"
    taken = sum(((1 << block.width) - 1) << block.shift for block in blocks)
    assert taken.bit_count() == sum(block.width for block in blocks), "no bit lies in two blocks"
    assert all(len(set(block.masks())) == block.flips for block in blocks if block.width * block.radius < 60)


def test_distance_counts_bits():
    assert hamming_distance(np.array([0, 7], dtype=np.uint64), np.array([2**64 - 1, 5], dtype=np.uint64)).tolist() == [
        64,
        1,
    ]
