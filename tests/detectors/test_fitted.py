"""A fitted detector: noise, proposals, and what a network without a capability answers."""

import copy

import numpy as np
import pytest
import torch
from torchvision.models.detection.rpn import RegionProposalNetwork

from alloop.detectors.torchvision.features import evaluating
from alloop.errors import StrategyError
from alloop.query import CAPABILITIES, Need
from alloop.testing import FakeDetector
from alloop.values import ImageId
from tests.support.detectors import Source, confident, fitted, make, scene


def test_the_noise_is_a_function_of_seed_image_and_sigma():
    detector = confident("fcos")
    seen, single = fitted(detector, [(96, 64)] * 3), fitted(detector, [(96, 64)] * 3, batch_size=1)
    ids = [ImageId(i) for i in range(3)]
    clean, still = seen.detections(ids), seen.noisy_detections(ids, 0.0, 0)
    for a, b in zip(clean, still, strict=True):
        assert np.array_equal(a.boxes, b.boxes)
    noisy = seen.noisy_detections(ids, 16.0, 0)
    for a, b in zip(noisy, seen.noisy_detections(ids[::-1], 16.0, 0)[::-1], strict=True):
        assert np.array_equal(a.boxes, b.boxes)
    for a, b in zip(noisy, single.noisy_detections(ids, 16.0, 0), strict=True):
        assert a.scores == pytest.approx(b.scores, abs=1e-4)
    for sigma, seed in ((32.0, 0), (16.0, 1), (0.0, 0)):
        other = seen.noisy_detections(ids, sigma, seed)
        assert any(
            len(a) != len(b) or not np.array_equal(a.scores, b.scores) for a, b in zip(noisy, other, strict=True)
        )
    pixels = Source([(96, 64)] * 3).pixels
    assert all(np.array_equal(seen._cache.read(i), pixels[i]) for i in ids), "the cache must stay clean"


@pytest.mark.parametrize("name", ["faster_rcnn", "mask_rcnn"])
def test_two_stage_detections_know_their_proposals(name):
    detector = make(name)
    seen = fitted(detector, [(96, 64), (192, 128)])
    for found in seen.detections([ImageId(0), ImageId(1)]):
        assert found.proposals.shape == found.boxes.shape
        assert len(found)
    images, _ = scene()
    with evaluating(detector.module):
        batch, _ = detector.module.transform(images)
        features = detector.module.backbone(batch.tensors)
        network = copy.deepcopy(detector.module.rpn)
        network.__class__ = RegionProposalNetwork
        proposals, _ = network(batch, features)
    for mine, every in zip(detector.detect(images), proposals, strict=True):
        apart = (mine["proposals"][:, None] - every[None]).abs().amax(dim=2).min(dim=1).values
        assert float(apart.max()) < 1e-3
    assert fitted(make("fcos"), [(96, 64)]).detections([ImageId(0)])[0].proposals is None


def test_a_detector_without_last_layers_or_loss_prediction_says_so():
    class Bare:
        module = torch.nn.Identity()

        def losses(self, images, targets): ...
        def detect(self, images): ...
        def embed(self, images): ...
        def region_features(self, images, boxes): ...

    seen = fitted(Bare(), [(8, 8)], gives=frozenset({Need.DETECTIONS}))
    with pytest.raises(StrategyError, match="last layers"):
        seen.loss_gradient([ImageId(0)], {})
    with pytest.raises(StrategyError, match="loss prediction module"):
        seen.loss_predictions([ImageId(0)])


@pytest.mark.parametrize("need", [need for need in Need if need != Need.REFERENCE])
def test_every_need_of_a_detector_has_a_protocol_that_fitted_and_fake_detectors_implement(need):
    for detector in (fitted(make("mask_rcnn"), [(64, 64)]), FakeDetector()):
        assert isinstance(detector, CAPABILITIES[need])
