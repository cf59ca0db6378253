"""Boxes keep float32 where the network computes in bfloat16, and float64 where it computes in that."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from alloop.detectors.seeding import seeded
from alloop.detectors.torchvision.catalogue import FCOS, FasterRCNN, RetinaNet
from alloop.detectors.torchvision.precision import WideAnchors
from alloop.values import ImageId
from tests.support.detectors import confident, fitted

SMALL = {"backbone": "tiny", "weights": "none", "channels": 32, "score_threshold": 0.0}
PLUGINS = {
    "fcos": FCOS(**SMALL, tower_convs=1),
    "fcos_isal": FCOS(**SMALL, tower_convs=1, variant="isal"),
    "retinanet": RetinaNet(**SMALL, anchor_size=32.0),
    "faster_rcnn": FasterRCNN(**SMALL, head_width=16, proposals=50),
}
ODD = torch.tensor([[1001.0, 3.0, 1029.0, 31.0]])  # bfloat16 has no such numbers above 512


def built(name):
    with seeded(0):
        return PLUGINS[name].build(3)


def images():
    return [torch.rand(3, 32, 1056, generator=torch.Generator().manual_seed(1))]


def autocast():
    return torch.autocast("cpu", torch.bfloat16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_anchors_are_torchvisions_in_full_precision_and_float32_in_half(dtype):
    sizes, ratios = ((12, 24), (48, 96)), ((0.5, 1.0), (0.5, 2.0))
    maps = [torch.rand(2, 4, 8, 300, dtype=dtype), torch.rand(2, 4, 4, 150, dtype=dtype)]
    batch = ImageList(torch.zeros(2, 3, 32, 1200), [(32, 1200), (30, 1100)])
    expected = AnchorGenerator(sizes, ratios)(batch, maps)
    found = WideAnchors(sizes, ratios)(batch, maps)
    half = WideAnchors(sizes, ratios)(batch, [m.bfloat16() for m in maps])
    for a, b, c in zip(expected, found, half, strict=True):
        assert a.dtype == b.dtype == dtype
        assert torch.equal(a, b)
        assert c.dtype == torch.float32
        assert torch.equal(a.float(), c)


@pytest.mark.parametrize("name", PLUGINS)
def test_detected_boxes_under_autocast_are_float32_and_not_rounded(name):
    with autocast():
        boxes = built(name).detect(images())[0]["boxes"]
    assert boxes.dtype == torch.float32
    assert (boxes != boxes.bfloat16().float()).any()


def test_targets_of_a_two_stage_detector_are_not_rounded_under_autocast(monkeypatch):
    detector = built("faster_rcnn")
    heads, seen = detector.module.roi_heads, []
    select = heads.regions
    monkeypatch.setattr(heads, "regions", lambda *args: seen.append(select(*args)) or seen[-1])
    with autocast(), seeded(0):
        detector.losses(images(), [{"boxes": ODD, "labels": torch.tensor([1])}])
    (regions,) = seen
    assert regions.boxes.dtype == regions.deltas.dtype == torch.float32
    assert (regions.positive_by_image[0] == ODD).all(dim=1).any()  # the true box is among the regions, as it is


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet"])
def test_losses_under_autocast_are_near_those_in_full_precision_far_from_the_origin(name):
    detector, targets = built(name), [{"boxes": ODD, "labels": torch.tensor([1])}]
    with torch.no_grad():
        full = detector.losses(images(), targets)
        with autocast():
            half = detector.losses(images(), targets)
    for term, values in full.items():
        assert torch.allclose(half[term].float(), values, rtol=0.02), term


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet", "faster_rcnn"])
def test_scores_under_autocast_are_close_and_not_rounded_to_its_steps(name):
    """The last layers compute in float32, so that scores do not tie."""
    detector = confident(name)
    ids = [ImageId(k) for k in range(4)]
    wide = fitted(detector, [(96, 64)] * 4)
    half = fitted(detector, [(96, 64)] * 4)
    half._amp = True
    plain, mixed = wide.detections(ids), half.detections(ids)
    scores = np.concatenate([found.scores for found in mixed])
    assert np.abs(np.sort(scores)[-20:] - np.sort(np.concatenate([found.scores for found in plain]))[-20:]).max() < 0.05
    rounded = torch.from_numpy(scores).bfloat16().float().numpy()
    assert (rounded != scores).mean() > 0.9
    assert all(found.boxes.dtype == np.float32 for found in mixed)
    assert not np.array_equal(scores, np.concatenate([found.scores for found in plain])[: len(scores)])
    vectors, others = wide.embeddings(ids), half.embeddings(ids)
    assert np.abs(vectors - others).max() < 0.05 * np.abs(vectors).max()
    assert not np.array_equal(vectors, others)
