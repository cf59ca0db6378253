"""Derivatives in the last layers against slow, obvious references."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from alloop.config import parse_config
from alloop.data.pixels import PixelCache
from alloop.detectors import fitted_derivatives
from alloop.detectors import last_layers as derivatives
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.fitted_derivatives import pseudo_target, sampling_seed
from alloop.detectors.seeding import seeded
from alloop.detectors.transfer import to_tensors
from alloop.loop.experiment import prepare
from alloop.values import Annotations, ImageId
from strategies import TABLE
from tests.support import small_tree
from tests.support.detectors import KINDS, confident, fitted, make, scene


@contextmanager
def training_but_norm(module):
    """Train mode, since torchvision only then returns losses, with batch norm in eval mode; the modes come back."""
    modes = {name: child.training for name, child in module.named_modules()}
    module.train()
    for child in module.modules():
        if isinstance(child, torch.nn.BatchNorm2d):
            child.eval()
    try:
        yield
    finally:
        for name, child in module.named_modules():
            child.training = modes[name]


def last_weights(detector):
    return {name: detector.module.get_parameter(name).detach() for name in detector.last_layers}


def direction(weights, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.1 * torch.randn(w.shape, generator=generator).to(w.dtype) for name, w in weights.items()}


def backward_slope(detector, image, target, seed, vector):
    """The dot product of one image's gradient, through torchvision's own forward pass in train mode."""
    with training_but_norm(detector.module), seeded(seed):
        loss = sum(term.sum() for term in detector.losses([image], [target]).values())
        parameters = [detector.module.get_parameter(name) for name in vector]
        gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    parts = zip(gradient, vector.values(), strict=True)
    return sum(float((g.double() * v.double()).sum()) for g, v in parts if g is not None)


def assert_close(ours, reference):
    """1e-5 relative, of the largest: a derivative near zero is a difference of large numbers."""
    assert np.abs(np.asarray(ours) - np.asarray(reference)).max() <= 1e-5 * np.abs(reference).max()


@pytest.mark.parametrize("posteriors", [False, True], ids=["hard", "posterior"])
@pytest.mark.parametrize("name", KINDS)
def test_one_forward_pass_equals_one_backward_pass_per_image(name, posteriors):
    detector, (images, targets) = make(name), scene(posteriors=posteriors)
    loss = detector.cached_features(images).losses(targets, [11, 12, 13])
    weights = last_weights(detector)
    vector = direction(weights)
    ours = derivatives.slopes(loss, weights, vector)
    expected = [
        backward_slope(detector, i, t, 11 + n, vector) for n, (i, t) in enumerate(zip(images, targets, strict=True))
    ]
    assert_close(ours.numpy(), expected)
    gradient = derivatives.gradient(loss, weights)
    assert_close([sum(float((gradient[n] * vector[n]).sum()) for n in vector)], [sum(expected)])


@pytest.mark.parametrize("posteriors", [False, True], ids=["hard", "posterior"])
@pytest.mark.parametrize("name", KINDS)
def test_curvature_is_the_finite_difference_of_the_gradient_layer_by_layer(name, posteriors):
    detector, (images, targets) = make(name), scene(posteriors=posteriors, dtype=torch.float64)
    detector.module.double()
    if name == "fcos":  # away from the kink of relu, where an untrained head stands
        torch.nn.init.ones_(detector.module.head.regression_head.bbox_reg.bias)
    loss = detector.cached_features(images).losses(targets, [1, 2, 3])
    weights = last_weights(detector)
    everything = direction(weights)
    for layer in weights:
        vector = {n: v if n == layer else torch.zeros_like(v) for n, v in everything.items()}
        kept, forward = (
            derivatives.curvature(loss, weights)(vector),
            derivatives.curvature_product(loss, weights, vector),
        )
        step = 1e-6
        ends = [
            derivatives.gradient(loss, {n: w + sign * step * vector[n] for n, w in weights.items()}) for sign in (1, -1)
        ]
        for other in weights:
            differences = (ends[0][other] - ends[1][other]) / (2 * step)
            torch.testing.assert_close(kept[other], forward[other], rtol=1e-9, atol=1e-12)
            # smooth L1 bends at a point that a difference may straddle
            atol = 1e-5 * float(differences.abs().max()) + 1e-9
            torch.testing.assert_close(kept[other], differences, rtol=1e-4, atol=atol)


@pytest.mark.parametrize("name", KINDS)
def test_a_posterior_that_is_certain_is_a_hard_label(name):
    detector, (images, targets) = make(name), scene()
    detector.module.train()
    with seeded(3):
        hard = detector.losses(images, targets)
    for target in targets:
        target["posteriors"] = torch.nn.functional.one_hot(target["labels"], 3).float()
    with seeded(3):
        certain = detector.losses(images, targets)
    for term, value in hard.items():
        torch.testing.assert_close(certain[term], value)
    targets[0]["posteriors"] = 0.5 * targets[0]["posteriors"]
    with seeded(3):
        doubted = detector.losses(images, targets)
    for term in ("bbox_regression", "bbox_ctrness", "loss_box_reg", "loss_rpn_box_reg", "loss_mask"):
        if term in hard:
            torch.testing.assert_close(doubted[term][0], 0.5 * hard[term][0])


def annotated(targets, ids):
    return {
        i: Annotations(
            t["boxes"].numpy(), t["labels"].numpy(), np.zeros(len(t["labels"])), np.ones(len(t["labels"]), dtype=bool)
        )
        for i, t in zip(ids, targets, strict=True)
    }


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet", "faster_rcnn"])
def test_scoring_is_that_of_the_detections_as_truth(name):
    detector = confident(name)
    seen = fitted(detector, [(96, 64)] * 5, batch_size=5)
    ids = [ImageId(i) for i in range(5)]
    threshold = 0.2
    images = next(iter(seen._batches("", ids)))[1]
    tangent = direction(last_weights(detector))
    vector = {n: v.numpy() for n, v in tangent.items()}
    for labels in ("hard", "posterior"):
        truth = [pseudo_target(found, threshold, labels) for found in seen.detector.detect(images)]
        slopes, boxes = seen.pseudo_label_slopes(ids, vector, threshold, labels)
        assert boxes.sum() > 5
        assert boxes.tolist() == [len(target["boxes"]) for target in truth]
        seeds = map(sampling_seed, ids)
        pairs = zip(images, truth, seeds, strict=True)
        assert_close(slopes, [backward_slope(detector, image, target, seed, tangent) for image, target, seed in pairs])
    slopes, boxes = seen.pseudo_label_slopes(ids, vector, threshold, "hard")
    soft, same = seen.pseudo_label_slopes(ids, vector, threshold, "posterior")
    assert (same == boxes).all()
    assert np.abs(soft - slopes).max() > 1e-3 * np.abs(slopes).max()
    again, _ = seen.pseudo_label_slopes(ids[::-1], vector, threshold, "hard")
    assert (again[::-1] == slopes).all()


@pytest.mark.parametrize("name", ["fcos", "faster_rcnn"])
@pytest.mark.parametrize("backbone", ["mobilenet_v2"])
def test_scoring_real_images_equals_a_backward_pass_each(name, backbone, real_data):
    tree = small_tree(
        **{
            "data": {
                "train": {
                    "annotations": f"{real_data}/bccd/annotations/instances_train.json",
                    "images": f"{real_data}/bccd/images",
                },
                "test": {
                    "annotations": f"{real_data}/bccd/annotations/instances_test.json",
                    "images": f"{real_data}/bccd/images",
                },
            },
            "detector.name": name,
            "detector.backbone": backbone,
            "detector.weights": "imagenet",
            "detector.short_side": 120,
            "detector.long_side": 160,
            "strategy.name": "influence",
        }
    )
    experiment = prepare(parse_config(tree), TABLE)
    detector, pool = experiment.new_detector(0), experiment.splits.train
    ids = sorted(pool.dataset.images)[:4]
    cache = PixelCache(pool.images, 120, 160)
    seen = FittedTorchDetector(
        detector,
        pool.images,
        cache,
        pool.dataset.class_names,
        gives=experiment.detector.gives,
        batch_size=4,
        device=torch.device("cpu"),
    )
    vector = direction(last_weights(detector))
    slopes = seen.loss_slopes(ids, pool.dataset.annotations, {n: v.numpy() for n, v in vector.items()})
    expected = [
        backward_slope(
            detector,
            to_tensors([cache.read(i)], torch.device("cpu"))[0],
            seen._target(i, pool.dataset.annotations[i]),
            sampling_seed(i),
            vector,
        )
        for i in ids
    ]
    assert_close(slopes, expected)


@pytest.mark.parametrize("name", ["fcos", "fcos_isal", "retinanet", "faster_rcnn", "mask_rcnn"])
def test_a_score_is_a_probability(name):
    """Thresholds of papers are thresholds on a probability, for FCOS on class times centerness."""
    detector = confident(name)
    images, _ = scene()
    found = detector.detect(images)[0]
    own = found["probabilities"].gather(1, found["labels"][:, None])[:, 0]
    if name.startswith("fcos"):  # an untrained centerness is one half
        own = 0.5 * own
    torch.testing.assert_close(found["scores"], own, rtol=0.05, atol=0.03)
    middle = float(own.median())
    seen = fitted(detector, [(96, 64)] * 3)
    ids = [ImageId(i) for i in range(3)]
    vector = {n: v.numpy() for n, v in direction(last_weights(detector)).items()}
    _, boxes = seen.pseudo_label_slopes(ids, vector, middle, "hard")
    expected = [int((d.scores >= middle).sum()) for d in seen.detections(ids)]
    assert boxes.tolist() == expected


def test_the_threshold_of_fcos_is_one_on_the_class_before_centerness():
    detector = confident("fcos")
    images, _ = scene()
    most = max(float(found["probabilities"].max()) for found in detector.detect(images))
    threshold = 0.9 * most  # an untrained centerness is one half, so no product reaches it
    detector.module.score_thresh = threshold
    left = detector.detect(images)
    assert any(len(found["scores"]) for found in left)
    assert all((found["scores"] < threshold).all() for found in left)
    assert all((found["probabilities"].max(dim=1).values > threshold).all() for found in left)


def test_kept_curvature_is_bounded_and_its_loss_changes_nothing(monkeypatch):
    detector = make("fcos")
    seen = fitted(detector, [(96, 64)] * 4)
    ids = [ImageId(i) for i in range(4)]
    _, targets = scene()
    truth = annotated([*targets, targets[0]], ids)
    vector = {n: v.numpy() for n, v in direction(last_weights(detector)).items()}
    whole = seen.curvature_product(ids, truth, vector)
    assert len(seen._kept) == 4
    one = next(iter(seen._kept.values()))[1]
    for limit, kept in ((9 * one, 4), (2 * one, 0)):
        monkeypatch.setattr(fitted_derivatives, "KEPT_BYTES", limit)
        seen._kept.clear()
        again = seen.curvature_product(ids, truth, vector)
        assert len(seen._kept) == kept
        for name in whole:
            assert again[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-6)
    monkeypatch.setattr(fitted_derivatives, "KEPT_BYTES", 100 * one)
    seen.curvature_product(ids, truth, vector)
    monkeypatch.setattr(fitted_derivatives, "KEPT_BYTES", 8 * one)
    seen._kept.clear()
    many = {ImageId(i): truth[ids[i % 4]] for i in range(4)}
    for _ in range(3):
        for image_id in ids:
            other = dataclasses.replace(many[image_id])  # the same boxes in another object are another loss
            seen.curvature_product([image_id], {image_id: other}, vector)
    assert len(seen._kept) == 8
