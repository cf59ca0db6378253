"""Classifier retraining: it changes one layer and nothing else, draws classes evenly, and goes on after any stop."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch

from alloop.data.pixels import PixelCache
from alloop.errors import TrainingError
from alloop.randomness import RoundSeed
from alloop.training.class_balance.classifier_retraining import (
    ClassBalancedBatches,
    class_balanced_rows,
    retrain_classifier,
    retraining_seed,
    retraining_steps,
    rows_by_class,
)
from alloop.values import Annotations
from tests.support.training import MemoryStore, experiment

LAYER = {f"roi_heads.box_predictor.cls_score.{name}" for name in ("weight", "bias")}
SEED = retraining_seed(RoundSeed(0, 0))


def labels_of(*images):
    return [np.array(labels, dtype=np.int64) for labels in images]


def balanced_batches(made, labeled, seed=SEED, **config):
    pool = made.splits.train
    return ClassBalancedBatches(
        PixelCache(pool.images, 64, 64),
        labeled,
        made.config.training.model_copy(update={"flip": 0.5, **config}),
        seed,
        with_masks="mask" in made.config.detector.name,
        device=torch.device("cpu"),
    )


def first_labeled(made, count=10):
    return dict(list(made.splits.train.dataset.annotations.items())[:count])


def retrain(made, detector, store, steps, progress=lambda *_: None):
    retrain_classifier(
        detector,
        balanced_batches(made, first_labeled(made)),
        made.config.training,
        steps=steps,
        seed=SEED,
        device=torch.device("cpu"),
        store=store,
        progress=progress,
    )


def retrained(made, store, steps=4):
    detector = made.new_detector(0)
    before = {name: tensor.clone() for name, tensor in detector.module.state_dict().items()}
    retrain(made, detector, store, steps)
    return detector, before


def two_stage(name="faster_rcnn", **changes):
    quick = {"detector.name": name, "training.batch_size": 3, "training.checkpoint_seconds": 0}
    if name == "faster_rcnn_c4":
        quick |= {"detector.backbone": "resnet18", "detector.weights": "none", "detector.trainable_stages": 5}
    return experiment(**{**quick, **changes})


@pytest.mark.parametrize("name", ["faster_rcnn", "faster_rcnn_c4", "mask_rcnn"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_no_tensor_changes_but_the_last_classification_layer(name, ema):
    made = two_stage(name, **{"training.ema": ema})
    detector, before = retrained(made, MemoryStore())
    after = detector.module.state_dict()
    assert {key for key in after if not torch.equal(after[key], before[key])} == LAYER


def test_what_required_gradients_before_does_so_afterwards():
    made = two_stage()
    detector = made.new_detector(0)
    detector.module.rpn.requires_grad_(requires_grad=False)
    expected = {name: p.requires_grad for name, p in detector.module.named_parameters()}
    assert len(set(expected.values())) == 2
    retrain(made, detector, MemoryStore(), 1)
    assert {name: p.requires_grad for name, p in detector.module.named_parameters()} == expected
    assert all(module.training for module in detector.module.modules())


def test_going_on_from_any_checkpoint_is_bit_identical():
    made = two_stage()
    store = MemoryStore()
    straight, _ = retrained(made, store, 5)
    assert [step for step, _ in store.saved] == [1, 2, 3, 4]
    for _, state in store.saved:
        resumed, _ = retrained(made, MemoryStore(state), 5)
        for key, tensor in straight.module.state_dict().items():
            assert torch.equal(tensor, resumed.module.state_dict()[key])


def test_the_layer_begins_anew():
    """Weights of before would stay where a class has learned nothing."""
    made = two_stage()
    results = []
    for fill in (0.0, 5.0):
        detector = made.new_detector(0)
        with torch.no_grad():
            detector.module.get_submodule(detector.classification_layer).weight.fill_(fill)
        retrain(made, detector, MemoryStore(), 2)
        results.append(detector.module.get_submodule(detector.classification_layer).weight)
    assert torch.equal(*results)


def test_the_features_are_those_of_a_trained_detector():
    """Batch norms use the statistics that they have learned, and nothing is dropped."""
    made = two_stage()
    detector, seen = made.new_detector(0), []
    norm = torch.nn.BatchNorm1d(32)
    heads = detector.module.roi_heads
    heads.box_head = torch.nn.Sequential(heads.box_head, norm, torch.nn.Dropout(0.5))
    heads.box_head.register_forward_hook(lambda _m, args, output: seen.append((heads.box_head[0](*args), output)))
    before = copy.deepcopy(norm.state_dict())
    retrain(made, detector, MemoryStore(), 2)
    for features, output in seen:
        assert torch.allclose(output, features / (1 + norm.eps) ** 0.5), "a new norm divides by 1"
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    assert all(module.training for module in heads.box_head)


def test_classes_are_drawn_evenly_and_images_evenly_within_a_class():
    """Against the probability of the docstring, computed image by image."""
    labels = labels_of([0, 0, 0], [0], [0, 1], [], [1, 1, 7], [0])
    generator = np.random.default_rng(0)
    draws = 30_000
    drawn = Counter(class_balanced_rows(rows_by_class(labels), generator, draws))
    assert 3 not in drawn, "an image without a box is never drawn"
    for row, own in enumerate(labels):
        expected = sum((c in own) / (3 * sum(c in other for other in labels)) for c in (0, 1, 7))
        assert drawn[row] / draws == pytest.approx(expected, abs=0.01)


def test_rows_by_class_lists_every_image_once():
    assert [rows.tolist() for rows in rows_by_class(labels_of([2, 2], [5], [], [2, 5]))] == [[0, 3], [1, 3]]
    assert rows_by_class(labels_of([], [])) == []


def test_batches_are_a_function_of_seed_and_step_whatever_is_repeated():
    made = two_stage()
    labeled = first_labeled(made)
    one, two = balanced_batches(made, labeled), balanced_batches(made, labeled, repeat_threshold=0.9)
    assert len(two.image_ids) > len(one.image_ids)
    steps = [one.step_ids(step) for step in range(20)]
    assert steps == [two.step_ids(step) for step in range(20)]
    assert one.step_ids(7) == steps[7]
    assert len(set(map(tuple, steps))) > 15, "each step draws anew"
    assert steps != [balanced_batches(made, labeled, RoundSeed(0, 0)).step_ids(step) for step in range(20)]
    _, targets, image_ids = one(3)
    assert image_ids == steps[3]
    assert [len(target["labels"]) for target in targets] == [len(labeled[i].labels) for i in image_ids]


def test_only_trainable_boxes_count():
    made = two_stage()
    labeled = first_labeled(made, 4)
    first = min(labeled)
    truth = labeled[first]
    crowd = np.ones(len(truth.labels), dtype=bool)
    labeled[first] = Annotations(truth.boxes, truth.labels, crowd, ~crowd)
    batches = balanced_batches(made, labeled)
    assert first not in {i for step in range(50) for i in batches.step_ids(step)}


def test_progress_is_reported_after_each_step():
    made, seen = two_stage(), []
    retrain(made, made.new_detector(0), MemoryStore(), 3, lambda step, loss: seen.append((step, loss > 0)))
    assert seen == [(1, True), (2, True), (3, True)]


def test_steps_are_a_share_and_never_none():
    assert retraining_steps(1 / 9, 900) == 100
    assert retraining_steps(0.01, 10) == 1


def test_a_detector_whose_layer_has_no_loss_is_refused():
    made = two_stage()
    detector = made.new_detector(0)
    detector.classification_layer = "unused"
    detector.module.unused = torch.nn.Linear(2, 11)
    with pytest.raises(TrainingError, match="no loss depends on 'unused'"):
        retrain(made, detector, MemoryStore(), 1)


def test_a_loss_that_is_not_finite_names_its_images():
    made = two_stage(**{"training.lr": 1e38, "training.clip_norm": None, "training.optimizer": "sgd"})
    with pytest.raises(TrainingError, match=r"not finite.*loss_classifier.*images of this batch: \["):
        retrained(made, MemoryStore(), 20)
