"""A classifier's losses, probabilities and derivatives against plain autograd, and the identity of soft labels."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from alloop.detectors import last_layers as derivatives
from alloop.detectors.classification.classifier import ImageClassifier
from alloop.detectors.classification.networks import build_resnet, build_tiny

CLASSES = 4


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    network = build_tiny(CLASSES).double()
    with torch.no_grad():  # running statistics that are not those of a new network
        network.train()(torch.rand(16, 3, 8, 8, dtype=torch.float64))
    return ImageClassifier(network.eval())


def batch(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    images = [torch.rand(3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(count)]
    return images, [{"labels": torch.tensor([k % CLASSES])} for k in range(count)]


def weights_of(classifier):
    return {name: classifier.module.get_parameter(name).detach() for name in classifier.last_layers}


def test_every_convolution_and_linear_weight_is_differentiated(classifier):
    expected = {name for name, p in classifier.module.named_parameters() if p.ndim > 1}
    assert set(classifier.last_layers) == expected
    assert set(classifier.last_layers.values()) == {10_000.0}


def test_losses_are_the_cross_entropy_over_the_batch(classifier):
    images, targets = batch(5)
    terms = classifier.losses(images, targets)
    logits = classifier.module(torch.stack(images))
    expected = functional.cross_entropy(logits, torch.cat([t["labels"] for t in targets]))
    assert sum(term.sum() for term in terms.values()).item() == pytest.approx(expected.item())
    assert terms["classification"].shape == (5,)


def test_probabilities_do_not_depend_on_the_batch_or_the_mode(classifier):
    images, _ = batch(3)
    together = classifier.classify(images)
    classifier.module.train()
    alone = torch.cat([classifier.classify([image]) for image in images])
    assert classifier.module.training
    classifier.module.eval()
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(3))
    assert classifier.embed(images).shape == (3, 64)
    logits = classifier.module.head(classifier.embed(images))
    torch.testing.assert_close(logits.float().softmax(dim=1), together)


def test_gradient_and_slopes_are_those_of_autograd(classifier):
    images, targets = batch(3)
    loss, weights = classifier.cached_features(images).losses(targets, [0] * len(images)), weights_of(classifier)
    direction = {name: torch.randn_like(weight) for name, weight in weights.items()}
    slopes = derivatives.slopes(loss, weights, direction)
    gradient = derivatives.gradient(loss, weights)
    names = list(weights)
    parameters = [classifier.module.get_parameter(name) for name in names]
    for row, (image, target) in enumerate(zip(images, targets, strict=True)):
        single = functional.cross_entropy(classifier.module(image[None]), target["labels"])
        own = torch.autograd.grad(single, parameters)
        expected = sum((g * direction[name]).sum() for name, g in zip(names, own, strict=True))
        assert slopes[row].item() == pytest.approx(expected.item(), rel=1e-4)
        for name, g in zip(names, own, strict=True):
            gradient[name] = gradient[name] - g
    assert all(rest.abs().max() < 1e-5 for rest in gradient.values())


def test_the_curvature_product_is_that_of_double_backward(classifier):
    images, targets = batch(2)
    loss, weights = classifier.cached_features(images).losses(targets, [0] * len(images)), weights_of(classifier)
    torch.manual_seed(3)
    vector = {name: torch.randn_like(weight) for name, weight in weights.items()}
    product, kept = derivatives.curvature_product(loss, weights, vector), derivatives.curvature(loss, weights)(vector)
    parameters = [classifier.module.get_parameter(name) for name in weights]
    total = functional.cross_entropy(
        classifier.module(torch.stack(images)), torch.cat([target["labels"] for target in targets]), reduction="sum"
    )
    first = torch.autograd.grad(total, parameters, create_graph=True)
    inner = sum((own * vector[name]).sum() for name, own in zip(weights, first, strict=True))
    for name, expected in zip(weights, torch.autograd.grad(inner, parameters), strict=True):
        scale = expected.abs().max().item()
        np.testing.assert_allclose(product[name], expected, atol=1e-4 * scale)
        np.testing.assert_allclose(kept[name], expected, atol=1e-4 * scale)


def test_the_expectation_over_all_classes_has_no_slope_in_the_last_layer(classifier):
    """For softmax and cross entropy, sum_c p_c (p - e_c) = 0 at the logits (ISAL, soft labels with k = all)."""
    images, targets = batch(3)
    probabilities = classifier.classify(images).double()
    soft = [{**target, "posteriors": row[None]} for target, row in zip(targets, probabilities, strict=True)]
    gradient = derivatives.gradient(
        classifier.cached_features(images).losses(soft, [0] * len(images)), weights_of(classifier)
    )
    assert gradient["head.weight"].abs().max() < 1e-6
    hard = derivatives.gradient(
        classifier.cached_features(images).losses(targets, [0] * len(images)), weights_of(classifier)
    )
    assert hard["head.weight"].abs().max() > 1e-2


@pytest.mark.parametrize(("stem", "side", "cells"), [("cifar", 32, 32), ("imagenet", 64, 16)])
def test_the_stem_of_cifar_keeps_the_size_of_small_images(stem, side, cells):
    network = build_resnet("resnet18", 10, stem).eval()
    with torch.no_grad():
        maps = network.backbone(torch.rand(1, 3, side, side))
        assert network(torch.rand(1, 3, side, side)).shape == (1, 10)
    assert [tuple(m.shape[1:]) for m in maps.values()] == [
        (64, cells, cells),
        (128, cells // 2, cells // 2),
        (256, cells // 4, cells // 4),
        (512, cells // 8, cells // 8),
    ]
    assert network.backbone.widths == (64, 128, 256, 512)


def test_a_resnet_with_the_stem_of_cifar_has_the_known_number_of_weights():
    network = build_resnet("resnet18", 10, "cifar")
    assert sum(p.numel() for p in network.parameters()) == 11_173_962  # of the widely used ResNet-18 for CIFAR-10
