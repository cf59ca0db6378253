"""Leaks: what two data sets have in common, against comparing every image with every other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.fingerprints import Fingerprint
from alloop.data.leaks import (
    Side,
    duplicate_groups,
    duplicate_lines,
    leaked,
    nearest_embeddings,
    overlap_json,
    overlap_lines,
    overlaps,
)
from alloop.values import ImageRecord

HASHES = st.sampled_from([0, 1, 3, 7, 2**63, 2**63 + 1, 2**40 - 1])
FINGERPRINTS = st.lists(st.tuples(st.sampled_from("stuv"), st.one_of(st.none(), HASHES)), max_size=6)


def side(name, prints, first_id=1, **fields):
    found = {first_id + row: Fingerprint(sha, perceptual) for row, (sha, perceptual) in enumerate(prints)}
    images = {image_id: ImageRecord(image_id, f"{name}/{image_id}.png", 9, 9) for image_id in found}
    return Side(name, images, found, **fields)


def by_kind(found):
    return {overlap.kind: [match.first for match in overlap.matches] for overlap in found}


@given(FINGERPRINTS, FINGERPRINTS, st.integers(0, 3))
def test_every_image_with_a_twin_is_found_once(own, others, radius):
    found = overlaps(side("a", own), side("b", others, 100), radius)
    same, near = [], []
    for row, (sha, perceptual) in enumerate(own, start=1):
        if any(sha == other for other, _ in others):
            same.append(row)
        elif perceptual is not None and any(
            other is not None and (perceptual ^ other).bit_count() <= radius for _, other in others
        ):
            near.append(row)
    assert by_kind(found) == {"identical": same, "near-identical": near, "same image id": [], "same file name": []}
    assert leaked(found) == {*same, *near}
    for match in found[1].matches:
        pair = own[match.first - 1][1], others[match.second - 100][1]
        assert match.distance == (pair[0] ^ pair[1]).bit_count()


def test_ids_and_names_in_both_are_told_and_are_no_leak():
    first = side("a", [("s", 2**40 - 1), ("t", 2**40 - 1)])
    second = Side("b", {2: ImageRecord(2, "other/1.png", 9, 9)}, {2: Fingerprint("u", 2**63)})
    found = overlaps(first, second)
    assert by_kind(found) == {"identical": [], "near-identical": [], "same image id": [2], "same file name": [1]}
    assert leaked(found) == set()


def test_groups_in_both_leak():
    first = side("a", [("s", 1), ("t", 2**40 - 1)], groups={1: "v1", 2: "v2"})
    second = side("b", [("u", 2**63)], 100, groups={100: "v2"})
    found = overlaps(first, second, radius=0)
    assert by_kind(found)["same group"] == [2]
    assert leaked(found) == {2}
    assert "a/2.png (image 2) and b/100.png (image 100), group v2" in "\n".join(overlap_lines(first, second, found, 0))


@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 99))
def test_the_nearest_embedding_is_that_of_the_slow_search(m, n, seed):
    rng = np.random.default_rng(seed)
    queries, others = rng.normal(size=(m, 3)), rng.normal(size=(n, 3))
    rows, distances = nearest_embeddings(queries, others)
    for query, row, distance in zip(queries, rows, distances, strict=True):
        slow = [1 - query @ o / np.linalg.norm(query) / np.linalg.norm(o) for o in others]
        assert distance == pytest.approx(min(slow), abs=1e-12)
        assert slow[row] == pytest.approx(min(slow), abs=1e-12)


def test_similar_embeddings_leak_and_an_embedding_of_zeros_is_like_nothing():
    first = side("a", [("s", None)] * 3, embeddings={1: np.array([1.0, 0]), 2: np.array([0, 1.0]), 3: np.zeros(2)})
    second = side("b", [("t", None)], 100, embeddings={100: np.array([2.0, 0.02])})
    found = overlaps(first, second, cosine=0.01)
    assert by_kind(found)["similar embedding"] == [1]
    same = side("b", [("t", None)], 100, embeddings={100: np.array([3.0, 0])})
    assert by_kind(overlaps(first, same, cosine=0.0))["similar embedding"] == [1], "the limit itself counts"
    assert by_kind(overlaps(first, side("b", [("t", None)], embeddings={}), cosine=0.01))["similar embedding"] == []


@given(st.lists(HASHES, max_size=8), st.integers(0, 3))
def test_duplicates_are_grouped_by_chains_largest_first(hashes, radius):
    groups = duplicate_groups({row: Fingerprint("", value) for row, value in enumerate(hashes)}, radius)
    reach = {row: {row} for row in range(len(hashes))}
    for _ in hashes:
        for row, members in reach.items():
            reach[row] = members | {
                other
                for other in range(len(hashes))
                if any((hashes[other] ^ hashes[member]).bit_count() <= radius for member in members)
            }
    slow = {tuple(sorted(members)) for members in reach.values() if len(members) > 1}
    assert {tuple(group) for group in groups} == slow
    assert [len(group) for group in groups] == sorted((len(group) for group in groups), reverse=True)


def test_what_is_printed_counts_everything_and_shows_the_first_pairs():
    first, second = side("a", [("s", 1)] * 12), side("b", [("s", 1)], 100)
    found = overlaps(first, second)
    lines = overlap_lines(first, second, found, 8)
    assert lines[0] == "a (12 images) against b (1 images)"
    assert lines[1] == "     12 images with the same bytes"
    assert lines[2].strip() == "a/1.png (image 1) and b/100.png (image 100)"
    assert lines[12].strip() == "and 2 more"
    tree = overlap_json(second, found, 8)
    assert (tree["leaks"], tree["counts"]["identical"], len(tree["pairs"])) == (12, 12, 12)
    groups = duplicate_groups(first.fingerprints)
    assert duplicate_lines(first.images, groups, 8) == [
        "duplicates (at most 8 of 64 bits differ): 12 images in 1 groups, 11 more than one of each",
        "  12 images: a/1.png (image 1), a/2.png (image 2), a/3.png (image 3) and 9 more",
    ]


def test_images_that_cannot_be_read_are_counted():
    first = Side("a", {1: ImageRecord(1, "x", 9, 9)}, {1: Fingerprint(None, None, "x is gone")})
    lines = overlap_lines(first, side("b", []), overlaps(first, side("b", [])), 8)
    assert lines[-1] == "      1 images of a cannot be read and were not compared: x is gone"
