"""The features of frozen layers stand for an image in everything that a detector does."""

import copy

import pytest
import torch

from alloop.detectors.protocol import FrozenFeatureDetector, FrozenFeatures, ScoringDetector
from tests.support.detectors import KINDS, NAMES, make, scene
from tests.support.frozen import random_norms, random_weights

BACKBONES = {"faster_rcnn_c4": "resnet18"}


def detector(name, folder, **changes):
    backbone = BACKBONES.get(name, "mobilenet_v3_small")
    made = make(name, backbone, weights=random_weights(backbone, folder), **changes)
    random_norms(made.module)
    return made


def features(made, images):
    layers = made.frozen_layers()
    return [layers(image) for image in images]


@pytest.mark.parametrize("name", KINDS)
def test_losses_and_their_gradients_are_those_of_the_pixels(name, tmp_path):
    made = detector(name, tmp_path)
    images, targets = scene()
    made.module.train()
    results = []
    for given in (images, features(made, images)):
        made.module.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        terms = made.losses(given, targets)
        torch.stack(list(terms.values())).sum().backward()
        gradients = {n: p.grad.clone() for n, p in made.module.named_parameters() if p.grad is not None}
        results.append((terms, gradients))
    (terms, gradients), (mine, own) = results
    for term, values in terms.items():
        assert torch.allclose(mine[term], values, rtol=1e-3, atol=1e-4), term
    assert own.keys() == gradients.keys()
    for weight, gradient in gradients.items():
        assert torch.allclose(own[weight], gradient, rtol=0, atol=2e-3 * float(gradient.abs().max()) + 1e-6), weight


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("scoring", [False, True])
def test_detections_embeddings_and_regions_are_those_of_the_pixels(name, scoring, tmp_path):
    made = detector(name, tmp_path)
    images, targets = scene()
    given = features(made, images)
    used = made.scoring_copy() if scoring else made
    boxes = [target["boxes"] for target in targets]
    assert torch.allclose(used.embed(given), made.embed(images), rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(used.region_features(given, boxes), made.region_features(images, boxes), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=1e-4)
    for mine, theirs in zip(used.detect(given), made.detect(images), strict=True):
        assert mine["scores"][:5].tolist() == pytest.approx(theirs["scores"][:5].tolist(), abs=1e-4)
        assert mine.keys() == theirs.keys()


def test_the_features_of_an_image_do_not_depend_on_its_neighbours(tmp_path):
    made = detector("fcos", tmp_path)
    small, large = torch.rand(3, 40, 64), torch.rand(3, 64, 96)
    both = made.detect(features(made, [small, large]))
    for alone, image in zip(both, (small, large), strict=True):
        height, width = image.shape[-2:]
        assert (alone["boxes"] >= 0).all()
        assert (alone["boxes"][:, 0::2] <= width).all()
        assert (alone["boxes"][:, 1::2] <= height).all()
    first, second = features(made, [small])[0], features(made, [large, small])[1]
    assert all(torch.equal(a, b) for a, b in zip(first.maps, second.maps, strict=True))
    assert first.shape == (3, 40, 64)


@pytest.mark.parametrize(("stages", "maps"), [(4, 0), (3, 1), (2, 1), (1, 2), (0, 3)])
def test_what_is_kept_depends_on_what_is_frozen(stages, maps, tmp_path):
    made = detector("fcos", tmp_path, trainable_stages=stages)
    layers = made.frozen_layers()
    trained = [n for n, p in made.module.backbone.body.named_parameters() if p.requires_grad]
    if not maps:
        assert layers is None
        assert trained
        return
    assert len(layers(torch.rand(3, 64, 96)).maps) == maps
    assert bool(trained) == (stages > 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BACKBONES])
def test_a_backbone_whose_norms_are_trained_has_no_frozen_layers(name):
    made = make(name, "mobilenet_v3_small", trainable_stages=1)
    assert isinstance(made, FrozenFeatureDetector)
    assert isinstance(made, ScoringDetector)
    assert made.frozen_layers() is None


def test_the_hash_tells_weights_and_what_is_frozen_apart(tmp_path):
    hashes = [detector("fcos", tmp_path, trainable_stages=stages).frozen_layers().sha256 for stages in (2, 1)]
    made = detector("fcos", tmp_path, trainable_stages=2)
    hashes.append(made.frozen_layers().sha256)
    assert hashes[2] == hashes[0]
    other = copy.deepcopy(made)
    with torch.no_grad():
        next(other.module.backbone.body.parameters()).view(-1)[0] += 1e-6
    hashes.append(other.frozen_layers().sha256)
    with torch.no_grad():
        list(made.module.backbone.body.parameters())[-1].add_(1)  # a weight that is trained
    hashes.append(made.frozen_layers().sha256)
    assert hashes[4] == hashes[0]
    assert len(set(hashes)) == 3
    assert detector("faster_rcnn", tmp_path, trainable_stages=2).frozen_layers().sha256 == hashes[0]


def test_training_never_changes_what_the_frozen_layers_compute(tmp_path):
    made = detector("fcos", tmp_path)
    images, targets = scene()
    before = features(made, images)
    made.module.train()
    optimizer = torch.optim.AdamW([p for p in made.module.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    torch.stack(list(made.losses(before, targets).values())).sum().backward()
    optimizer.step()
    for old, new in zip(before, features(made, images), strict=True):
        assert isinstance(new, FrozenFeatures)
        assert all(torch.equal(a, b) for a, b in zip(old.maps, new.maps, strict=True))
