"""Matching equals torchvision's; sampling takes as many rows as torchvision's, and every choice is equally likely."""

from collections import Counter
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher
from torchvision.ops import box_iou

from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.sampling import (
    BACKGROUND,
    NEITHER,
    Truth,
    WaitFreeMatcher,
    overlaps,
    random_keys,
    sampled,
)

CPU = torch.device("cpu")
CHECKED = settings(max_examples=60, deadline=None, derandomize=True)


def boxes_of(seed, *shape):
    """Random boxes on a coarse grid, some of them without area."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, 20, (*shape, 2), generator=generator)
    return torch.cat([corner, corner + torch.randint(0, 9, (*shape, 2), generator=generator)], dim=-1) * 1.5


def matches_of(seed, counts):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(NEITHER, 3, (count,), generator=generator) for count in counts]


@CHECKED
@given(seed=st.integers(0, 10**6), m=st.integers(0, 6), n=st.integers(0, 20), batch=st.sampled_from([(), (2,), (2, 3)]))
def test_overlaps_are_torchvisions_to_the_last_bit(seed, m, n, batch):
    boxes, regions = boxes_of(seed, *batch, m), boxes_of(seed + 1, *batch, n)
    assert torch.equal(overlaps(boxes, regions).nan_to_num(-1), box_iou(boxes, regions).nan_to_num(-1))


@CHECKED
@given(
    seed=st.integers(0, 10**6),
    m=st.integers(1, 6),
    n=st.integers(1, 30),
    thresholds=st.sampled_from([(0.5, 0.5), (0.7, 0.3), (0.25, 0.25), (1.0, 0.0)]),
    low=st.booleans(),
    steps=st.sampled_from([4, 1000]),
)
def test_every_region_gets_the_match_that_torchvision_gives_it(seed, m, n, thresholds, low, steps):
    """Among them ties, qualities that equal a threshold, boxes that nothing overlaps, and NaN."""
    generator = torch.Generator().manual_seed(seed)
    quality = (torch.rand(m, n, generator=generator) * steps).round() / steps
    quality[torch.rand(m, n, generator=generator) < 0.05] = float("nan")
    assert torch.equal(WaitFreeMatcher(*thresholds, low)(quality), Matcher(*thresholds, low)(quality.clone()))


def test_without_a_box_every_region_is_background():
    for low in (False, True):
        assert WaitFreeMatcher(0.7, 0.3, low)(torch.zeros(0, 4)).tolist() == [BACKGROUND] * 4


@CHECKED
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    wanted=st.integers(1, 12),
    fraction=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_each_image_gives_as_many_positives_and_negatives_as_torchvisions_sampler(seed, counts, wanted, fraction):
    matches, sampler = matches_of(seed, counts), BalancedPositiveNegativeSampler(wanted, fraction)
    with seeded(seed):
        image, row, match = sampled(matches, random_keys(counts, CPU), sampler)
    positive, negative = sampler([torch.where(own == NEITHER, -1, own == NEITHER) + 2 * (own >= 0) for own in matches])
    assert image.tolist() == sorted(image.tolist())
    assert len(set(zip(image.tolist(), row.tolist(), strict=True))) == len(row)
    for k, own in enumerate(matches):
        assert torch.equal(match[image == k], own[row[image == k]])
        assert int((match[image == k] >= 0).sum()) == int(positive[k].sum())
        assert int((match[image == k] == BACKGROUND).sum()) == int(negative[k].sum())
    assert not (match == NEITHER).any()


@pytest.mark.parametrize(("wanted", "fraction"), [(4, 0.5), (3, 0.4), (2, 0.0), (6, 0.5)])
def test_every_choice_of_an_image_belongs_to_equally_many_orders_of_the_keys(wanted, fraction):
    own = torch.tensor([0, BACKGROUND, 2, BACKGROUND, NEITHER, 1, BACKGROUND])
    positives, negatives = [0, 2, 5], [1, 3, 6]
    share = min(3, int(wanted * fraction))
    seen = Counter()
    for order in permutations(range(7)):
        _, row, _ = sampled([own], [torch.tensor(order)], BalancedPositiveNegativeSampler(wanted, fraction))
        seen[frozenset(row.tolist())] += 1
    choices = {
        frozenset(a + b)
        for a in combinations(positives, share)
        for b in combinations(negatives, min(3, wanted - share))
    }
    assert seen.keys() == choices
    assert len(set(seen.values())) == 1


@CHECKED
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 25), min_size=1, max_size=4))
def test_an_image_with_the_same_keys_gives_the_same_rows_in_any_company(seed, counts):
    matches, sampler = matches_of(seed, counts), BalancedPositiveNegativeSampler(6, 0.5)
    keys = random_keys(counts, CPU)
    image, row, _ = sampled(matches, keys, sampler)
    for k, pair in enumerate(zip(matches, keys, strict=True)):
        _, alone, _ = sampled(*([part] for part in pair), sampler)
        assert torch.equal(row[image == k], alone)


def test_keys_are_a_function_of_the_seed_and_differ_from_each_other():
    def drawn(seed):
        with seeded(seed):
            return random_keys([50_000, 0, 50_000], CPU)

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert [len(own) for own in first] == [50_000, 0, 50_000]
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], other[0])
    assert len(torch.cat(first).unique()) == 100_000
    assert int(torch.cat(first).min()) >= 0


def test_the_truth_joins_the_boxes_of_all_images():
    boxes = [boxes_of(0, 2), boxes_of(0, 0), boxes_of(1, 3)]
    labels = [torch.tensor([2, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([3, 1, 2])]
    targets = [{"boxes": b, "labels": k} for b, k in zip(boxes, labels, strict=True)]
    truth = Truth.of(targets)
    assert (truth.counts, truth.first.tolist()) == ([2, 0, 3], [0, 2, 2])
    assert torch.equal(truth.boxes, torch.cat(boxes))
    assert (truth.labels.tolist(), truth.certainty.tolist()) == ([2, 1, 3, 1, 2], [1] * 5)
    assert truth.posteriors is None
    posteriors = [torch.rand(len(b), 3, generator=torch.Generator().manual_seed(3)) for b in boxes]
    doubted = Truth.of([{**t, "posteriors": p} for t, p in zip(targets, posteriors, strict=True)])
    assert torch.equal(doubted.posteriors, torch.cat(posteriors))
    assert doubted.certainty.tolist() == [
        row[k - 1] for row, k in zip(doubted.posteriors.tolist(), truth.labels, strict=True)
    ]
    empty = Truth.of([{"boxes": boxes_of(0, 0), "labels": labels[1], "posteriors": torch.zeros(0, 3)}] * 2)
    assert (len(empty.boxes), empty.counts, len(empty.certainty)) == (0, [0, 0], 0)
