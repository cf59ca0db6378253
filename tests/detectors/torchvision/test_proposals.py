"""Proposals are torchvision's own; on a GPU another way of suppression keeps the same ones."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import nms

from alloop.detectors.torchvision import suppression
from alloop.detectors.torchvision.suppression import best_of_levels, best_together
from tests.support.detectors import make

CHECKED = settings(max_examples=40, deadline=None, derandomize=True)


@functools.cache
def network():
    return make("faster_rcnn").module.rpn


@pytest.fixture
def rpn(monkeypatch):
    """A network whose numbers of proposals and thresholds a test may change."""
    rpn = network()
    for name in ("_pre_nms_top_n", "_post_nms_top_n", "score_thresh", "training"):
        monkeypatch.setattr(rpn, name, getattr(rpn, name))
    return rpn


def outputs(seed, counts, images, steps=None, scale=0.5):
    """Anchors, objectness and deltas as the network might give them; with `steps`, many scores are equal."""
    generator = torch.Generator().manual_seed(seed)
    anchors = sum(counts)
    corner = torch.rand(anchors, 2, generator=generator) * 70 - 10
    boxes = torch.cat([corner, corner + 4 + torch.rand(anchors, 2, generator=generator) * 30], dim=1)
    objectness = torch.randn(images * anchors, 1, generator=generator)
    deltas = torch.randn(images * anchors, 4, generator=generator) * scale
    return boxes, objectness if steps is None else (objectness * steps).round() / steps, deltas


def torchvisions(rpn, anchors, objectness, deltas, shapes, counts):
    boxes = rpn.box_coder.decode(deltas, [anchors] * len(shapes)).view(len(shapes), -1, 4)
    return RegionProposalNetwork.filter_proposals(rpn, boxes, objectness, shapes, counts)[0]


@CHECKED
@given(
    seed=st.integers(0, 10**6),
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    shapes=st.lists(st.sampled_from([(48, 64), (64, 64), (30, 50)]), min_size=1, max_size=3),
    steps=st.sampled_from([None, 2]),
    training=st.booleans(),
)
def test_proposals_are_torchvisions_in_its_order(seed, counts, shapes, steps, training):
    rpn = network()
    rpn._pre_nms_top_n, rpn._post_nms_top_n = {"training": 40, "testing": 20}, {"training": 30, "testing": 7}
    rpn.score_thresh, rpn.training = 0.0, training
    anchors, objectness, deltas = outputs(seed, counts, len(shapes), steps)
    found = rpn.proposals(anchors, objectness, deltas, shapes, counts)
    expected = torchvisions(rpn, anchors, objectness, deltas, shapes, counts)
    assert [own.tolist() for own in found] == [own.tolist() for own in expected]


def test_more_proposals_than_torchvision_suppresses_at_once_are_its_own(rpn):
    rpn._pre_nms_top_n = rpn._post_nms_top_n = {"training": 900, "testing": 900}
    anchors, objectness, deltas = outputs(0, [1500, 700], 2, steps=50)
    shapes = [(64, 64), (48, 60)]
    found = rpn.proposals(anchors, objectness, deltas, shapes, [1500, 700])
    expected = torchvisions(rpn, anchors, objectness, deltas, shapes, [1500, 700])
    assert [own.tolist() for own in found] == [own.tolist() for own in expected]


def test_boxes_without_area_improbable_ones_and_nan_are_no_proposals(rpn):
    anchors, objectness, deltas = outputs(0, [60, 20], 2)
    deltas[:40, 2:] = -20.0  # exp(-20) of a side
    deltas[100:110] = float("nan")
    rpn.score_thresh = 0.4
    shapes = [(64, 64), (48, 60)]
    found = rpn.proposals(anchors, objectness, deltas, shapes, [60, 20])
    expected = torchvisions(rpn, anchors, objectness, deltas, shapes, [60, 20])
    assert [own.tolist() for own in found] == [own.tolist() for own in expected]
    assert 0 < len(found[0]) < len(found[1]) < 80
    nothing = rpn.proposals(anchors, objectness, deltas * float("nan"), shapes, [60, 20])
    assert [own.tolist() for own in nothing] == [[], []]


def candidates(seed, images, levels):
    """Boxes sorted by score within each level."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, sum(levels), 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(images, sum(levels), 2, generator=generator) * 25], dim=-1)
    scores = torch.rand(images, sum(levels), generator=generator)
    scores = torch.cat([own.sort(dim=1, descending=True).values for own in scores.split(levels, dim=1)], dim=1)
    return boxes, scores, torch.rand(images, sum(levels), generator=generator) < 0.9


def by_torchvisions_nms(boxes, scores, valid, levels, iou):
    found = []
    for image in range(len(boxes)):
        kept, start = [], 0
        for count in levels:
            rows = start + torch.where(valid[image, start : start + count])[0]
            kept += rows[nms(boxes[image, rows], scores[image, rows], iou)].tolist()
            start += count
        found.append(sorted(kept, key=lambda row: -float(scores[image, row])))
    return found


@CHECKED
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 4),
    levels=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    iou=st.sampled_from([0.25, 0.5, 0.7]),
    steps=st.sampled_from([1, 3, 16]),
)
def test_both_ways_keep_what_suppression_of_each_image_and_level_keeps(seed, images, levels, iou, steps):
    boxes, scores, valid = candidates(seed, images, levels)
    expected = by_torchvisions_nms(boxes, scores, valid, levels, iou)
    assert [rows.tolist() for rows in best_of_levels(boxes, scores, valid, levels, iou)] == expected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "STEPS", steps)
        assert [rows.tolist() for rows in best_together(boxes, scores, valid, levels, iou)] == expected


def test_a_chain_of_boxes_is_followed_to_its_end():
    left = torch.arange(100.0)[None]
    boxes = torch.stack([left, torch.zeros_like(left), left + 6, torch.full_like(left, 6)], dim=-1)
    scores, valid = torch.linspace(1, 0, 100)[None], torch.ones(1, 100, dtype=torch.bool)
    (rows,) = best_together(boxes, scores, valid, [100], 0.5)
    assert rows.tolist() == list(range(0, 100, 2))  # a box overlaps its neighbours by 5 / 7
