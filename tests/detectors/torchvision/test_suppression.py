"""Suppression of a whole batch keeps what it keeps image by image, and what a plain loop over boxes keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_iou

from alloop.detectors.torchvision.suppression import one_by_one, suppressed, together


def candidates(seed, counts, classes, extent=60.0, ties=False):
    generator = torch.Generator().manual_seed(seed)
    n = sum(counts)
    corner = torch.rand(n, 2, generator=generator) * extent
    boxes = torch.cat([corner, corner + 1 + torch.rand(n, 2, generator=generator) * 30], dim=1)
    scores = torch.rand(n, generator=generator)
    return {
        "boxes": boxes.round() if ties else boxes,
        "scores": (scores * 8).round() / 8 if ties else scores,
        "labels": torch.randint(0, classes, (n,), generator=generator),
        "row": torch.arange(n),
    }


def by_a_loop(found, counts, iou):
    kept, start = [], 0
    for count in counts:
        rows = list(range(start, start + count))
        rows.sort(key=lambda row: -float(found["scores"][row]))
        left = []
        for row in rows:
            better = [r for r in left if found["labels"][r] == found["labels"][row]]
            overlaps = box_iou(found["boxes"][[row]].double(), found["boxes"][better].double())
            if not (overlaps > iou).any():
                left.append(row)
        kept.append(left)
        start += count
    return kept


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    classes=st.sampled_from([1, 3, 80]),
    iou=st.sampled_from([0.3, 0.5, 0.7]),
)
def test_all_three_ways_keep_the_same_boxes_in_the_same_order(seed, counts, classes, iou):
    found = candidates(seed, counts, classes)
    expected = by_a_loop(found, counts, iou)
    assert [rows.tolist() for rows in one_by_one(found, counts, iou)] == expected
    assert [rows.tolist() for rows in together(found, counts, iou)] == expected


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), counts=st.lists(st.integers(0, 30), min_size=2, max_size=4))
def test_an_image_keeps_the_same_boxes_in_any_company(seed, counts):
    found = candidates(seed, counts, classes=2, ties=True)
    rows = together(found, counts, 0.5)
    for image, start in enumerate([sum(counts[:k]) for k in range(len(counts))]):
        alone = {name: values[start : start + counts[image]] for name, values in found.items()}
        assert torch.equal(rows[image], together(alone, [counts[image]], 0.5)[0] + start)


def test_far_coordinates_of_many_groups_do_not_blur_overlaps():
    # 64 images x 80 classes x 4000 pixels move boxes by 2e7 pixels, where float32 has steps of 2 pixels
    box = torch.tensor([[3990.0, 3990.0, 4000.0, 4000.0], [3990.5, 3990.0, 4000.5, 4000.0]])
    found = {
        "boxes": box.repeat(64, 1),
        "scores": torch.linspace(1, 0.5, 128),
        "labels": torch.full((128,), 79),
    }
    assert [len(rows) for rows in together(found, [2] * 64, 0.90)] == [1] * 64  # the overlap is 9.5 / 10.5 = 0.905
    assert [len(rows) for rows in together(found, [2] * 64, 0.91)] == [2] * 64


@pytest.mark.parametrize("limit", [0, 1, 3, 100])
def test_the_best_boxes_of_each_image_are_kept_with_all_their_values(limit):
    found = candidates(0, [30, 0, 10], classes=3)
    expected = by_a_loop(found, [30, 0, 10], 0.5)
    results = suppressed(found, [30, 0, 10], 0.5, limit)
    assert [result["row"].tolist() for result in results] == [rows[:limit] for rows in expected]
    for result in results:
        assert all(torch.equal(values, found[name][result["row"]]) for name, values in result.items())


def test_no_box_at_all_is_an_empty_result_for_each_image():
    found = candidates(0, [0, 0], classes=3)
    for way in (one_by_one, together):
        assert [rows.tolist() for rows in way(found, [0, 0], 0.5)] == [[], []]
