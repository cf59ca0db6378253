"""How the logits of regions are read: each function against numbers worked out by hand or element by element."""

import math

import pytest
import torch

from alloop.detectors.torchvision.region_logits import SIGMOIDS, SOFTMAX
from tests.support.detectors import make

TWO_STAGE = ["faster_rcnn", "faster_rcnn_c4", "mask_rcnn"]


def logits_of(rows=20, columns=5):
    return 3 * torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_scores_of_sigmoids_are_the_class_without_the_background():
    logits = logits_of()
    for row, scores in zip(logits.tolist(), SIGMOIDS.scores(logits).tolist(), strict=True):
        assert scores == pytest.approx([sigmoid(z) * (1 - sigmoid(row[0])) for z in row[1:]], rel=1e-4)


def test_the_posterior_of_sigmoids_shares_what_the_background_leaves():
    logits = logits_of()
    for row, posterior in zip(logits.tolist(), SIGMOIDS.posterior(logits).tolist(), strict=True):
        foreground = [sigmoid(z) for z in row[1:]]
        rest = 1 - sigmoid(row[0])
        expected = [sigmoid(row[0]), *(rest * s / sum(foreground) for s in foreground)]
        assert posterior == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("reading", [SOFTMAX, SIGMOIDS])
@pytest.mark.parametrize("extreme", [-300.0, 0.0, 300.0])
def test_posteriors_sum_to_one_however_small_the_sigmoids(reading, extreme):
    logits = torch.cat([logits_of(), torch.full((1, 5), extreme)])
    logits = torch.cat([logits, logits.clone().index_fill_(1, torch.tensor([0]), -extreme)])
    posterior = reading.posterior(logits)
    assert torch.allclose(posterior.sum(dim=1), torch.ones(len(logits)), atol=1e-5)
    assert (posterior >= 0).all()
    assert reading.losses(logits, torch.zeros(len(logits), dtype=torch.int64)).isfinite().all()


def test_the_loss_of_sigmoids_is_a_sum_of_binary_cross_entropies():
    logits, labels = logits_of(), torch.arange(20) % 5
    for row, label, loss in zip(
        logits.tolist(), labels.tolist(), SIGMOIDS.losses(logits, labels).tolist(), strict=True
    ):
        parts = [-math.log(sigmoid(z) if k == label else 1 - sigmoid(z)) for k, z in enumerate(row)]
        assert loss == pytest.approx(sum(parts), rel=1e-3)


@pytest.mark.parametrize("reading", [SOFTMAX, SIGMOIDS])
def test_losses_under_probabilities_are_the_expectation_over_labels(reading):
    logits = logits_of()
    probabilities = torch.rand(20, 5, generator=torch.Generator().manual_seed(1))
    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    by_label = torch.stack([reading.losses(logits, torch.full((20,), label)) for label in range(5)], dim=1)
    expected = (probabilities * by_label).sum(dim=1)
    assert torch.allclose(reading.losses(logits, probabilities), expected, rtol=1e-4)


def test_softmax_reads_as_before():
    logits, labels = logits_of(), torch.arange(20) % 5
    assert torch.equal(SOFTMAX.scores(logits), logits.softmax(dim=-1)[:, 1:])
    assert torch.equal(SOFTMAX.posterior(logits), logits.softmax(dim=-1))
    assert torch.equal(
        SOFTMAX.losses(logits, labels), torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    )


@pytest.mark.parametrize("name", TWO_STAGE)
def test_every_part_of_a_detector_reads_sigmoids(name):
    detector, images = make(name), [torch.rand(3, 64, 64)]
    detector.read_logits_as_sigmoids()
    boxes = [torch.tensor([[2.0, 2, 30, 30], [20, 10, 60, 60]])]
    ((features, posterior),) = detector.classifier_outputs(images, boxes)
    logits = detector.module.roi_heads.box_predictor.cls_score(features)
    expected = SIGMOIDS.posterior(logits).roll(-1, dims=1)
    assert torch.allclose(posterior, expected, atol=1e-5)
    ((again, _),) = detector.cached_features(images).classified_regions(boxes)
    assert torch.allclose(again, expected, atol=1e-5), "the teacher's background probability is one of these"
    for form in (detector, detector.scoring_copy()):
        (found,) = form.detect(images)
        assert len(found["scores"])
        ((features, at_proposals),) = form.classifier_outputs(images, [found["proposals"]])
        assert torch.allclose(found["probabilities"], at_proposals[:, :-1], atol=1e-4)
        scores = SIGMOIDS.scores(detector.module.roi_heads.box_predictor.cls_score(features))
        own = scores.gather(1, found["labels"][:, None])[:, 0]
        assert torch.allclose(found["scores"], own, atol=1e-4)


def test_the_loss_of_influence_is_that_of_sigmoids():
    """The loss of each image as a function of the last layers, which strategies differentiate."""
    detector, target = make("faster_rcnn"), {"boxes": torch.tensor([[4.0, 4, 40, 40]]), "labels": torch.tensor([1])}
    images, values = [torch.rand(3, 64, 64)], []
    for _ in range(2):
        loss = detector.cached_features(images).losses([target], [0])
        weights = {name: detector.module.get_parameter(name).detach() for name in detector.last_layers}
        values.append(float(loss(weights).detach()))
        detector.read_logits_as_sigmoids()
    assert values[1] > values[0] + 0.5, "four sigmoids near 1/2 cost more than one softmax near 1/4"
    certain = {**target, "posteriors": torch.tensor([[0.0, 1.0, 0.0]])}
    expected = float(detector.cached_features(images).losses([certain], [0])(weights).detach())
    assert values[1] == pytest.approx(expected, rel=1e-4), "a posterior that is certain is a label"
