"""A fitted classifier: probabilities, features and slopes of every image, whatever the batches."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from alloop.class_values import ClassLabel
from alloop.data.pixels import PixelCache
from alloop.detectors.classification.classifier import ImageClassifier
from alloop.detectors.classification.fitted import FittedTorchClassifier
from alloop.detectors.classification.networks import build_tiny
from alloop.errors import AlloopError, StrategyError
from alloop.query import Need
from alloop.values import ImageId
from tests.support.detectors import Source

CLASSES = ("a", "b", "c")
IDS = [ImageId(i) for i in range(5)]


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    network = build_tiny(3)
    with torch.no_grad():
        network.train()(torch.rand(16, 3, 8, 8))
        network.head.weight.mul_(2)  # neither sure of one class nor of none: the expectation over all classes is 0
    return ImageClassifier(network.eval())


def fitted(classifier, batch_size=2):
    source = Source([(8, 8)] * len(IDS))
    gives = frozenset({Need.EMBEDDINGS, Need.LAST_LAYERS})
    settings = {"gives": gives, "batch_size": batch_size, "device": torch.device("cpu")}
    return FittedTorchClassifier(classifier, source, PixelCache(source, 8, 8), CLASSES, **settings)


def pixels_of(image_id):
    return torch.from_numpy(Source([(8, 8)] * len(IDS)).pixels[image_id]).permute(2, 0, 1)[None] / 255


def test_probabilities_and_features_are_those_of_each_image_alone(classifier):
    some, single = fitted(classifier), fitted(classifier, batch_size=1)
    for seen in (some, single):
        for image_id, found in zip(IDS[::-1], seen.class_probabilities(IDS[::-1]), strict=True):
            expected = classifier.module(pixels_of(image_id)).softmax(dim=1)[0].detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(
                seen.embeddings([image_id])[0], classifier.module.features(pixels_of(image_id))[0].detach(), rtol=1e-4
            )


def test_the_gradient_of_labels_is_that_of_autograd(classifier):
    seen, truth = fitted(classifier), {i: ClassLabel(int(i) % 3) for i in IDS}
    gradient = seen.loss_gradient(IDS, truth)
    parameters = [classifier.module.get_parameter(name) for name in gradient]
    logits = torch.cat([classifier.module(pixels_of(i)) for i in IDS])
    total = functional.cross_entropy(logits, torch.tensor([truth[i].label for i in IDS]), reduction="sum")
    for (_, found), expected in zip(gradient.items(), torch.autograd.grad(total, parameters), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(("labels", "threshold"), [("hard", 0.0), ("posterior", 0.3)])
def test_slopes_of_pseudo_labels_are_the_expected_gradient_of_isal(classifier, labels, threshold):
    seen = fitted(classifier)
    generator = np.random.default_rng(1)
    direction = {name: generator.normal(size=w.shape) for name, w in seen.loss_gradient([], {}).items()}
    slopes, counts = seen.pseudo_label_slopes(IDS, direction, threshold, labels)
    assert counts.tolist() == [1] * len(IDS)
    assert np.abs(slopes).max() > 0.05, "the threshold has to leave out a class that is not negligible"
    parameters = [classifier.module.get_parameter(name) for name in direction]
    for image_id, slope in zip(IDS, slopes, strict=True):
        logits = classifier.module(pixels_of(image_id))
        p = logits.softmax(dim=1)[0].detach()
        kept = [int(p.argmax())] if labels == "hard" else [k for k in range(3) if p[k] >= threshold]
        weight = 1 if labels == "hard" else None
        expected = 0.0
        for k in kept:
            loss = functional.cross_entropy(logits, torch.tensor([k]))
            own = torch.autograd.grad(loss, parameters, retain_graph=True)
            part = sum(float((g * torch.from_numpy(d)).sum()) for g, d in zip(own, direction.values(), strict=True))
            expected += (weight or float(p[k])) * part
        assert slope == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_the_curvature_is_kept_and_equals_that_of_a_batch(classifier):
    seen, truth = fitted(classifier), {i: ClassLabel(int(i) % 3) for i in IDS}
    generator = np.random.default_rng(2)
    vector = {name: generator.normal(size=w.shape) for name, w in seen.loss_gradient([], {}).items()}
    first, again = (seen.curvature_product(IDS[:2], truth, vector) for _ in range(2))
    single = [seen.curvature_product([i], truth, vector) for i in IDS[:2]]
    for name, value in first.items():
        np.testing.assert_array_equal(value, again[name])
        np.testing.assert_allclose(value, single[0][name] + single[1][name], rtol=1e-6, atol=1e-9)


def test_the_most_probable_classes_are_weighed_by_their_probability(classifier):
    """The slope is that of sum over the k best classes of p_c CE(x, c), with p held; with all classes it is 0."""
    seen = fitted(classifier)
    chance = np.random.default_rng(0)
    shapes = {name: classifier.module.get_parameter(name).shape for name in seen.last_layers}
    direction = {name: chance.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    parameters = [classifier.module.get_parameter(name) for name in direction]
    for classes in (1, 2):
        slopes, counts = seen.pseudo_label_slopes(IDS, direction, 0.1, classes)
        assert counts.tolist() == [1] * len(IDS)
        for image_id, slope in zip(IDS, slopes, strict=True):
            logs = classifier.module(pixels_of(image_id)).log_softmax(dim=1)[0]
            best = logs.topk(classes).indices
            gradients = torch.autograd.grad(-(logs.exp().detach()[best] * logs[best]).sum(), parameters)
            expected = sum((g * torch.from_numpy(d)).sum() for g, d in zip(gradients, direction.values(), strict=True))
            assert slope == pytest.approx(float(expected), rel=2e-3, abs=1e-3)
    for every in (3, 10):
        slopes, _ = seen.pseudo_label_slopes(IDS, {**direction}, 0.1, every)
        head = {name: part if name == "head.weight" else np.zeros_like(part) for name, part in direction.items()}
        assert np.abs(seen.pseudo_label_slopes(IDS, head, 0.1, every)[0]).max() < 1e-5


def test_what_a_detector_alone_answers_is_refused(classifier):
    seen = fitted(classifier)
    for ask in (
        lambda: seen.detections(IDS),
        lambda: seen.noisy_detections(IDS, 8.0, 0),
        lambda: seen.region_features(IDS, {}),
        lambda: seen.classifier_outputs(IDS, {}),
        lambda: seen.mask_pixels(IDS, {}, 0),
    ):
        with pytest.raises(StrategyError, match="found ImageClassifier"):
            ask()


def test_probabilities_that_are_not_finite_name_the_image(classifier):
    broken = copy.deepcopy(classifier)
    with torch.no_grad():
        broken.module.head.bias.fill_(float("nan"))
    with pytest.raises(AlloopError, match="image 0: the classifier gives probabilities that are not finite"):
        fitted(broken).class_probabilities(IDS)


def test_images_of_any_shape_become_squares():
    torch.manual_seed(0)
    network = ImageClassifier(build_tiny(3), 8)
    wide, square = torch.rand(3, 8, 14), torch.rand(3, 8, 8)
    expected = functional.interpolate(wide[None], (8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(network.classify([wide, square]), network.classify([expected[0], square]))
    assert torch.equal(network.module.batch([square])[0], square), "a square of that size is left as it is"
