"""The student's objective: what it minimises, and that going on equals never having stopped."""

import copy

import pytest
import safetensors.torch
import torch

from alloop.errors import TrainingError
from alloop.training.semi_supervised.gradient_balance import focal_loss, gradient_matrix
from alloop.training.semi_supervised.views import mirrored
from tests.support.detectors import chosen
from tests.support.semi_supervised import ALL, objective_of, semi, spied, trained
from tests.support.training import MemoryStore, experiment, trained_weights


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("faster_rcnn", {**ALL, "burn_in": 0.2, "refresh": 0.5, "warm_up": 0.3}),
        ("faster_rcnn", {**ALL, "style": "unbiased_teacher", "solver": "direct"}),
        ("fcos", {"style": "unbiased_teacher", "class_thresholds": True, "resampling": True, "warm_up": 0.4}),
        ("fcos_isal", {"style": "unbiased_teacher"}),
        ("retinanet", {"style": "unbiased_teacher"}),
    ],
)
def test_going_on_from_any_checkpoint_is_bit_identical(name, changes):
    changes = {**changes, "threshold": 0.06 if name == "faster_rcnn" else 0.012}  # young one-stage detectors are shy
    more = {**chosen(name), "detector.score_threshold": 0.01, "training.checkpoint_seconds": 0}
    made = experiment(**{**semi(**changes), **more})
    store, truth = MemoryStore(), made.splits.train.dataset.annotations.__getitem__
    straight, objective = trained(made, store, truth=truth)
    assert [step for step, _ in store.saved] == [1, 2, 3, 4, 5]
    assert sum(sum(record["pseudo"]) for record in objective.log.records), "there was no pseudo-label"
    for _, state in store.saved:
        weights, resumed = trained(made, MemoryStore(state), truth=truth)
        assert all(torch.equal(straight[key], weights[key]) for key in straight)
        assert resumed.log.records == objective.log.records
        assert all(torch.equal(a, b) for a, b in zip(objective.state().values(), resumed.state().values(), strict=True))
        assert torch.equal(objective.teacher.confidence, resumed.teacher.confidence)
        assert torch.equal(objective.teacher.seen, resumed.teacher.seen)


def test_checkpoints_keep_the_names_of_earlier_versions():
    store = MemoryStore()
    trained(experiment(**semi(**ALL), **{"training.checkpoint_seconds": 0}), store, steps=2)
    ((_, state),) = store.saved
    names = {key.partition(".")[2] for key in safetensors.torch.load(state) if key.startswith("lessons.")}
    own = {"rows", "sizes", "labels", "residuals", "repeats", "counts", "since", "course", "confidence", "seen"}
    assert names == own | {f"balance.{name}" for name in ("a", "matrix", "updates", "velocity", "means")}


@pytest.mark.parametrize("terms", [set(), {"loss_of_classes"}, {"loss_classifier", "loss_of_classes"}])
def test_classification_terms_that_the_detector_does_not_have_are_refused(terms):
    """Otherwise nothing would be learned from unlabeled images, in silence."""
    made = experiment(**semi(style="unbiased_teacher"))
    detector = made.new_detector(0)
    objective = objective_of(made, detector, dict(list(made.splits.train.dataset.annotations.items())[:10]), 6)
    objective._classification_terms = frozenset(terms)
    before = {name: weight.clone() for name, weight in detector.module.state_dict().items()}
    with pytest.raises(TrainingError, match=r"classification_terms.*loss_classifier"):
        trained_weights(made, detector, objective, MemoryStore(), 6)
    assert all(torch.equal(before[name], weight) for name, weight in detector.module.state_dict().items())


def test_the_truth_is_only_counted():
    made = experiment(**semi(**ALL))
    counted, objective = trained(made, MemoryStore(), truth=made.splits.train.dataset.annotations.__getitem__)
    blind, other = trained(made, MemoryStore())
    assert all(torch.equal(counted[key], blind[key]) for key in counted)
    assert {"pseudo", "right", "true"} <= objective.log.records[0].keys()
    assert not {"pseudo", "right", "true"} & other.log.records[0].keys()


def test_pseudo_boxes_are_mapped_to_the_view_of_the_student():
    _, student, objective = spied(1.0)
    terms, ids = objective(0)
    images, pseudo, background = student.calls
    weak, unlabeled_ids = objective._unlabeled(0)
    assert ids[-3:] == unlabeled_ids
    assert all(torch.equal(view, image.flip(-1)) for view, image in zip(images, weak, strict=True))
    detections = objective.teacher._detector.detect(weak)
    boxes = [d["boxes"][d["scores"] > 0.06] for d in detections]
    assert sum(map(len, boxes)) > 3
    for pseudo_boxes, detected in zip(pseudo, boxes, strict=True):
        valid = ((detected[:, 2:] - detected[:, :2]) >= 1).all(dim=1)
        assert torch.allclose(pseudo_boxes.boxes, mirrored(detected[valid], 64))
    regions = objective.teacher._detector.cached_features(weak).classified_regions(
        [torch.tensor([[44.0, 2.0, 63.0, 30.0]])] * 3
    )
    assert torch.allclose(torch.cat(background), torch.cat([probabilities[:, -1] for probabilities, _ in regions]))
    assert torch.equal(terms["unlabeled_loss_classifier"], torch.full((3,), 4.0)), "the published weight"


def test_the_teacher_waits_for_the_burn_in():
    _, student, objective = spied(0.0, burn_in=0.5)
    terms, ids = objective(4)
    assert student.calls is None
    assert len(ids) == 3
    assert not [name for name in terms if name.startswith("unlabeled_")]
    objective(5)
    assert student.calls is not None


def test_each_branch_feeds_the_matrix_with_its_weight():
    _, _, objective = spied(0.0, gradient_balance=True, weight=4.0, momentum=0.0)
    logits, labels = torch.randn(50, 11), torch.arange(50) % 11
    expected = gradient_matrix(logits, labels)
    for branch, strength in ((0, 1.0), (1, 4.0)):
        objective.balance.updates.fill_(100)
        objective.balanced(branch)(logits, labels, None)
        assert torch.allclose(objective.balance.matrix, strength * expected, rtol=1e-5)
    halves = torch.full((50,), 0.5)
    objective.balance.updates.fill_(100)
    weighted = objective.balanced(1)(logits, labels, halves)
    assert torch.allclose(objective.balance.matrix, 2 * expected, rtol=1e-5), "a region counts by its weight"
    assert torch.allclose(weighted, 0.5 * focal_loss(logits, labels), rtol=1e-4), "all weights are equal so far"


def test_class_weights_learn_from_both_branches():
    _, _, objective = spied(0.0, gradient_balance=True, weight=4.0, burn_in=0.5)
    objective.balance.update(gradient_matrix(torch.randn(50, 11), torch.arange(50) % 11))
    objective.balance.updates.fill_(100)
    for step, strength in ((1, 1.0), (6, 5.0)):
        alone = copy.deepcopy(objective.balance)
        alone.step(strength)
        objective.end_step(step)
        assert torch.equal(alone.a, objective.balance.a)
        assert objective.balance.a.detach().abs().max() > 0


def test_the_teacher_looks_at_the_unchanged_images():
    _, _, objective = spied(1.0)
    shown, features = [], objective.teacher.features
    objective._unlabeled.unchanged = lambda _ids, images: [image.clone() for image in images]
    objective.teacher.features = lambda images: shown.extend(images) or features(images)
    objective(0)
    pixels, _ = objective._unlabeled(0)
    assert all(torch.equal(a, b) and a is not b for a, b in zip(shown, pixels, strict=True))
    objective._unlabeled.unchanged = lambda _ids, images: [image * 0 for image in images]
    shown.clear()
    objective(0)
    assert not any(image.any() for image in shown)
