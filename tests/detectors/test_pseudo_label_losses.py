"""Losses under pseudo-labels equal those under labels where both agree."""

import pytest
import torch

from alloop.detectors.region_protocol import PseudoBoxes
from alloop.detectors.seeding import seeded
from alloop.training.semi_supervised.gradient_balance import SHIFT, focal_loss
from tests.support.semi_supervised import semi
from tests.support.training import batches_of, experiment


def test_true_pseudo_boxes_give_the_supervised_losses():
    """With every region of full weight, Soft Teacher's losses equal the detector's own where the same is sampled."""
    made = experiment(**semi())
    detector, truths = made.new_detector(0), made.splits.train.dataset.annotations
    ids = [i for i in sorted(truths) if len(truths[i])][:3]
    images, targets, _ = batches_of(made, {i: truths[i] for i in ids})(0)
    pseudo = [
        PseudoBoxes(t["boxes"], t["boxes"], t["labels"], torch.ones(len(t["boxes"])), t["boxes"], t["labels"])
        for t in targets
    ]
    detector.module.train()
    with seeded(3):
        supervised = detector.losses(images, targets)
    with seeded(3):
        under_pseudo = detector.pseudo_label_losses(
            images, pseudo, lambda regions: [torch.ones(len(r)) for r in regions]
        )
    assert supervised.keys() == under_pseudo.keys()
    for name in ("loss_objectness", "loss_rpn_box_reg", "loss_classifier"):
        assert torch.allclose(supervised[name], under_pseudo[name], rtol=1e-5, atol=1e-7), name
    with seeded(3):
        doubted = detector.pseudo_label_losses(images, pseudo, lambda regions: [torch.zeros(len(r)) for r in regions])
    assert not torch.allclose(supervised["loss_classifier"], doubted["loss_classifier"])
    assert (doubted["loss_classifier"] > 0).all(), "regions with a pseudo-box count, whatever the background weighs"
    shaky = [p._replace(reliable=p.reliable[:0], reliable_labels=p.reliable_labels[:0]) for p in pseudo]
    with seeded(3):
        unsteady = detector.pseudo_label_losses(images, shaky, lambda regions: [torch.ones(len(r)) for r in regions])
    assert torch.equal(unsteady["loss_classifier"], under_pseudo["loss_classifier"])
    assert float(under_pseudo["loss_box_reg"].detach().sum()) > 0 == float(unsteady["loss_box_reg"].detach().sum())
    none = PseudoBoxes(*(torch.zeros(0, 4) if k in (0, 1, 4) else torch.zeros(0, dtype=torch.int64) for k in range(6)))
    with seeded(3):
        empty = detector.pseudo_label_losses(images, [none] * 3, lambda regions: [torch.zeros(len(r)) for r in regions])
    assert float(empty["loss_classifier"].detach().sum()) == 0, (
        "regions without a pseudo-box and without background weight have no loss"
    )
    assert float(empty["loss_box_reg"].detach().sum()) == 0


def test_the_region_loss_is_replaced_inside_its_with():
    made = experiment(**semi())
    detector, truths = made.new_detector(0), made.splits.train.dataset.annotations
    images, targets, _ = batches_of(made, dict(list(truths.items())[:4]))(0)
    detector.module.train()

    def losses():
        with seeded(1):
            return detector.losses(images, targets)["loss_classifier"]

    plain = losses()
    with detector.region_loss_replaced(lambda logits, labels, _: focal_loss(logits, labels, focal=0.0)):
        same = losses()
    with detector.region_loss_replaced(lambda logits, labels, _: focal_loss(logits, labels, focal=2.0)):
        focal = losses()
    calls = []
    with detector.region_loss_replaced(
        lambda logits, labels, _: calls.append((logits, labels)) or logits.sum(dim=1) * 0
    ):
        losses()
    ((logits, labels),) = calls
    there = torch.cat([target["labels"] for target in targets]).tolist()
    assert set(labels.tolist()) == {*there, 10}, "the background is last"
    alike = float(focal_loss(logits, labels, focal=0.0).detach().mean())
    assert alike == pytest.approx(float(plain.detach().sum()), rel=1e-3)
    assert torch.allclose(plain, same, rtol=100 * SHIFT)
    assert (focal < plain).all()
    with pytest.raises(ZeroDivisionError), detector.region_loss_replaced(lambda *_: 1 / 0):
        losses()
    assert torch.equal(losses(), plain)


def test_classified_regions_are_those_of_the_detections():
    """The probabilities of the region that a detection came from, and the box that its class moves it to."""
    made = experiment(**semi())
    detector, truths = made.new_detector(0), made.splits.train.dataset.annotations
    images, _, _ = batches_of(made, dict(list(truths.items())[:4]))(0)
    features = detector.cached_features(images)
    detections = features.detections()
    assert sum(len(f["boxes"]) for f in detections) > 5
    for image, (probabilities, moved) in enumerate(features.classified_regions([f["proposals"] for f in detections])):
        rows = torch.arange(len(probabilities))
        assert torch.allclose(probabilities.sum(dim=1), torch.ones(len(probabilities)), atol=1e-5)
        assert torch.allclose(probabilities[:, :-1], detections[image]["probabilities"], atol=1e-5)
        assert torch.allclose(moved[rows, detections[image]["labels"]], detections[image]["boxes"], atol=1e-3)
    for probabilities, _ in features.classified_regions([torch.zeros(0, 4)] * len(images)):
        assert len(probabilities) == 0
