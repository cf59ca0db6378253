"""A teacher's pseudo-labels: what is believed, what it teaches, that nothing of it is paid or kept, and resuming."""

import copy

import numpy as np
import pytest
import safetensors.torch
import torch

from alloop.config import parse_config
from alloop.data.pixels import PixelCache
from alloop.detectors.protocol import PseudoBoxes
from alloop.detectors.seeding import seeded
from alloop.errors import ConfigError, TrainingError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from alloop.randomness import RoundSeed
from alloop.report.page import write_report
from alloop.report.training_log import MOST_NAMES, apart, draw_training_log, precision_recall
from alloop.results.compare import compare_runs
from alloop.training.batches import UnlabeledBatches
from alloop.training.semi_supervised.gradient_balance import SHIFT, ClassWeights, focal_loss, gradient_matrix
from alloop.training.semi_supervised.objective import SemiSupervisedObjective
from alloop.training.semi_supervised.pseudo_labels import INITIAL, box_variance, filtered_boxes, match_counts
from alloop.training.semi_supervised.views import mirrored, strong_views
from alloop.training.weights import WeightAverage
from alloop.values import Annotations
from strategies import TABLE
from tests.support import small_tree
from tests.support.training import MemoryStore, batches_of, experiment, trained_weights

ALL = {"gradient_balance": True, "class_thresholds": True, "resampling": True}
EAGER = {"unlabeled_ratio": 1, "threshold": 0.06, "warm_up": 0.1, "refresh": 0.2, "variance": 1.0}


def semi(**changes):
    return {"detector.name": "faster_rcnn", "training.batch_size": 3, "training.semi_supervised": {**EAGER, **changes}}


def objective_of(made, detector, labeled, steps, truth=None, flip=0.5):
    pool, config = made.splits.train, made.config.training
    unlabeled = sorted(pool.images.records.keys() - labeled.keys())
    return SemiSupervisedObjective(
        detector,
        made.new_detector(0),
        batches_of(made, labeled),
        UnlabeledBatches(
            PixelCache(pool.images, unlabeled, 64, 64, 10**8),
            unlabeled,
            RoundSeed(0, 0),
            batch_size=config.semi_supervised.unlabeled_ratio * config.batch_size,
            device=torch.device("cpu"),
        ),
        config.model_copy(update={"flip": flip}),
        classes=10,
        steps=steps,
        device=torch.device("cpu"),
        classification_terms=made.detector.classification_terms,
        truth=truth,
    )


def trained(made, store, steps=6, truth=None):
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    detector = made.new_detector(0)
    objective = objective_of(made, detector, labeled, steps, truth)
    return trained_weights(made, detector, objective, store, steps), objective


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("faster_rcnn", {**ALL, "burn_in": 0.2, "refresh": 0.5}),
        ("faster_rcnn", {**ALL, "style": "unbiased_teacher", "solver": "direct"}),
        ("fcos", {"style": "unbiased_teacher", "class_thresholds": True, "resampling": True, "warm_up": 0.4}),
        ("retinanet", {"style": "unbiased_teacher"}),
    ],
)
def test_going_on_from_any_checkpoint_is_bit_identical(name, changes):
    changes = {**changes, "threshold": 0.06 if name == "faster_rcnn" else 0.012}  # young one-stage detectors are shy
    more = {"detector.name": name, "detector.score_threshold": 0.01, "training.checkpoint_seconds": 0}
    made = experiment(**{**semi(**changes), **more})
    store, truth = MemoryStore(), made.splits.train.dataset.annotations.__getitem__
    straight, objective = trained(made, store, truth=truth)
    assert [step for step, _ in store.saved] == [1, 2, 3, 4, 5]
    assert sum(sum(record["pseudo"]) for record in objective.log.records), "nothing was taught"
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
    seen, objective = trained(made, MemoryStore(), truth=made.splits.train.dataset.annotations.__getitem__)
    blind, other = trained(made, MemoryStore())
    assert all(torch.equal(seen[key], blind[key]) for key in seen)
    assert {"pseudo", "right", "true"} <= objective.log.records[0].keys()
    assert not {"pseudo", "right", "true"} & other.log.records[0].keys()


def test_the_teacher_is_the_average_of_the_student_while_it_trains():
    made = experiment(**semi())
    detector = made.new_detector(0)
    objective = objective_of(made, detector, dict(list(made.splits.train.dataset.annotations.items())[:10]), 6)
    average = WeightAverage(detector.module, 0.5)
    objective.begin(average.tensors)
    before = {k: v.clone() for k, v in objective.teacher._detector.module.state_dict().items()}
    with torch.no_grad():
        for parameter in detector.module.parameters():
            parameter.add_(1.0)
    average.update(detector.module, 100)
    after = objective.teacher._detector.module.state_dict()
    assert all(torch.equal(after[k], average.tensors[k]) for k in after)
    moved = [k for k, _ in detector.module.named_parameters()]
    assert all(torch.allclose(after[k], before[k] + 0.5, atol=1e-5) for k in moved)
    assert not any(p.requires_grad for p in objective.teacher._detector.module.parameters())


def test_a_run_pays_for_nothing_that_a_teacher_said(tmp_path):
    tree = small_tree(**semi(**ALL), **{"strategy.name": "learning_loss"})
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    made = prepare(parse_config(tree), TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert not audit(ledger)
        truths = made.splits.train.dataset.annotations
        for image_id, paid in ledger.labeled().items():
            assert paid.boxes.tolist() == truths[image_id].boxes.tolist()
        assert ledger.spent().images == 14
    assert [bool(r.training_log) for r in rounds] == [True, True, True]
    last = rounds[-1].training_log[-1]
    assert last["step"] == 4
    assert len(last["class_weights"]) == 11
    assert sum(last["class_weights"]) == pytest.approx(11, abs=1e-2)
    assert len(last["thresholds"]) == len(last["pseudo"]) == 10


def test_without_an_unlabeled_image_there_is_nothing_to_teach(tmp_path):
    tree = small_tree(**semi(), **{"loop.seed_set": 24, "loop.rounds": 1})
    alone = small_tree(**{"detector.name": "faster_rcnn", "training.batch_size": 3})
    alone["loop"] |= {"seed_set": 24, "rounds": 1}
    taught = run_experiment(parse_config(tree), tmp_path / "a", TABLE)
    plain = run_experiment(parse_config(alone), tmp_path / "b", TABLE)
    assert taught[0].metrics == plain[0].metrics
    assert not taught[0].training_log


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"detector.name": "fcos"}, "soft_teacher weighs and regresses the regions of a second stage"),
        ({"detector.name": "retinanet"}, "take style: unbiased_teacher"),
        ({"detector.name": "mask_rcnn"}, "gives no masks to learn from"),
        ({"training.ema": 0.0}, "the teacher is the average of the weights; set training.ema"),
        ({"training.semi_supervised": {"styl": "soft_teacher"}}, "unknown key"),
        (
            {
                "detector.name": "fcos",
                "training.semi_supervised": {"style": "unbiased_teacher", "gradient_balance": True},
            },
            "needs a softmax over the classes and the background",
        ),
    ],
)
def test_what_does_not_apply_is_refused_with_the_reason(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        experiment(**{**semi(), **changes})


def test_boxes_that_are_the_truth_teach_what_the_truth_teaches():
    """With every region of full weight, Soft Teacher's losses are the detector's own where the same is sampled."""
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
        own = detector.losses(images, targets)
    with seeded(3):
        taught = detector.pseudo_label_losses(images, pseudo, lambda regions: [torch.ones(len(r)) for r in regions])
    assert own.keys() == taught.keys()
    for name in ("loss_objectness", "loss_rpn_box_reg", "loss_classifier"):
        assert torch.allclose(own[name], taught[name], rtol=1e-5, atol=1e-7), name
    with seeded(3):
        doubted = detector.pseudo_label_losses(images, pseudo, lambda regions: [torch.zeros(len(r)) for r in regions])
    assert not torch.allclose(own["loss_classifier"], doubted["loss_classifier"])
    shaky = [p._replace(reliable=p.reliable[:0], reliable_labels=p.reliable_labels[:0]) for p in pseudo]
    with seeded(3):
        unsteady = detector.pseudo_label_losses(images, shaky, lambda regions: [torch.ones(len(r)) for r in regions])
    assert torch.equal(unsteady["loss_classifier"], taught["loss_classifier"])
    assert float(taught["loss_box_reg"].detach().sum()) > 0 == float(unsteady["loss_box_reg"].detach().sum())
    none = PseudoBoxes(*(torch.zeros(0, 4) if k in (0, 1, 4) else torch.zeros(0, dtype=torch.int64) for k in range(6)))
    with seeded(3):
        empty = detector.pseudo_label_losses(images, [none] * 3, lambda regions: [torch.zeros(len(r)) for r in regions])
    assert float(empty["loss_classifier"].detach().sum()) == 0, (
        "what nobody claims and nobody believes in teaches nothing"
    )
    assert float(empty["loss_box_reg"].detach().sum()) == 0


def test_another_classification_loss_lasts_as_long_as_its_with():
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
    told = []
    with detector.region_loss_replaced(
        lambda logits, labels, _: told.append((logits, labels)) or logits.sum(dim=1) * 0
    ):
        losses()
    ((logits, labels),) = told
    there = torch.cat([target["labels"] for target in targets]).tolist()
    assert set(labels.tolist()) == {*there, 10}, "the background is last"
    alike = float(focal_loss(logits, labels, focal=0.0).detach().mean())
    assert alike == pytest.approx(float(plain.detach().sum()), rel=1e-3)
    assert torch.allclose(plain, same, rtol=100 * SHIFT)
    assert (focal < plain).all()
    with pytest.raises(ZeroDivisionError), detector.region_loss_replaced(lambda *_: 1 / 0):
        losses()
    assert torch.equal(losses(), plain)


def test_what_a_teacher_judges_is_what_it_detects():
    """The probabilities of the region that a detection came from, and the box that its class moves it to."""
    made = experiment(**semi())
    detector, truths = made.new_detector(0), made.splits.train.dataset.annotations
    images, _, _ = batches_of(made, dict(list(truths.items())[:4]))(0)
    seen = detector.cached_features(images)
    found = seen.detections()
    assert sum(len(f["boxes"]) for f in found) > 5
    for image, (said, moved) in enumerate(seen.classified_regions([f["proposals"] for f in found])):
        rows = torch.arange(len(said))
        assert torch.allclose(said.sum(dim=1), torch.ones(len(said)), atol=1e-5)
        assert torch.allclose(said[:, :-1], found[image]["probabilities"], atol=1e-5)
        assert torch.allclose(moved[rows, found[image]["labels"]], found[image]["boxes"], atol=1e-3)
    assert [len(said) for said, _ in seen.classified_regions([torch.zeros(0, 4)] * len(images))] == [0] * len(images)


def test_the_variance_of_a_box_is_that_of_what_it_is_refined_to():
    boxes, labels = [torch.tensor([[0.0, 0.0, 20.0, 10.0], [5.0, 5.0, 9.0, 9.0]])], [torch.tensor([0, 1])]
    torch.manual_seed(0)
    kept = []

    def refine(moved, of):
        assert of[0].tolist() == [0, 1] * 400
        kept.append(moved[0].view(400, 2, 4))
        return moved

    found = box_variance(refine, boxes, labels, 400, 0.06)[0]
    expected = [float(kept[0][:, row].std(dim=0).mean()) / (0.5 * sides) for row, sides in ((0, 30.0), (1, 8.0))]
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    # deviation 0.06 w of two coordinates and 0.06 h of the others: their mean over half of w + h is 0.06
    assert found.tolist() == pytest.approx([0.06, 0.06], rel=0.1)
    still = box_variance(lambda moved, _: [torch.ones_like(moved[0])], boxes, labels, 5, 0.06)[0]
    assert still.tolist() == [0, 0]
    assert len(box_variance(lambda moved, _: moved, [torch.zeros(0, 4)], [torch.zeros(0)], 5, 0.06)[0]) == 0


def test_three_losses_believe_three_things():
    found = {
        "boxes": torch.tensor([[0.0, 0, 9, 9], [9.0, 0, 19, 9], [0.0, 9, 9, 19], [0.0, 0, 0.5, 9]]),
        "scores": torch.tensor([0.95, 0.8, 0.6, 0.99]),
        "labels": torch.tensor([0, 1, 0, 0]),
    }
    variance = torch.tensor([0.021, 0.019, 0.01, 0.01])
    assert INITIAL < 0.6
    told = filtered_boxes(found, variance, torch.tensor([0.9, 0.7]), 0.9, 0.02)
    assert told.proposals.tolist() == [[0, 0, 9, 9]], "the base threshold"
    assert told.labels.tolist() == [0, 1], "a threshold for each class"
    assert told.scores.tolist() == pytest.approx([0.95, 0.8])
    assert told.reliable.tolist() == [[9, 0, 19, 9], [0, 9, 9, 19]], "steady boxes, whatever their score"
    assert told.reliable_labels.tolist() == [1, 0]
    assert len(filtered_boxes(found, None, torch.tensor([0.9, 0.7]), 0.9, 0.02).reliable) == 0


def test_right_pseudo_boxes_are_counted_once():
    truth = Annotations(
        boxes=np.array([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]], dtype=np.float32),
        labels=np.array([0, 0, 1]),
        crowd=np.array([False, False, False]),
        trainable=np.array([True, True, True]),
        masks=(None,) * 3,
    )
    boxes = np.array([[0, 0, 10, 9], [0, 0, 10, 10], [40, 0, 50, 10], [21, 0, 31, 10]], dtype=np.float32)
    counts = match_counts(truth, boxes, np.array([0, 0, 0, 0]), 3)
    assert counts.tolist() == [[4, 0, 0], [2, 0, 0], [2, 1, 0]]
    assert match_counts(truth, boxes[:0], np.zeros(0, dtype=np.int64), 3).tolist() == [[0, 0, 0], [0, 0, 0], [2, 1, 0]]


def test_two_views_of_one_image():
    images = [torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(k)) for k in range(40)]
    with seeded(5):
        views, flipped = strong_views(images, 0.5, 1.0)
    with seeded(5):
        again, _ = strong_views(images, 0.5, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    assert {view.shape for view in views} == {(3, 32, 48)}
    assert all(0 <= float(view.min()) <= float(view.max()) <= 1 for view in views)
    assert 5 < sum(flipped) < 35
    assert sum(not torch.equal(v, i) for v, i in zip(views, images, strict=True)) > 35
    with seeded(5):
        plain, turned = strong_views(images, 0.5, 0.0)
    assert all(torch.equal(p, i.flip(-1) if t else i) for p, i, t in zip(plain, images, turned, strict=True))
    boxes = torch.tensor([[1.0, 2.0, 5.0, 9.0], [0.0, 0.0, 48.0, 32.0]])
    assert mirrored(boxes, 48).tolist() == [[43, 2, 47, 9], [0, 0, 48, 32]]
    assert torch.equal(mirrored(mirrored(boxes, 48), 48), boxes)


def test_unlabeled_images_come_as_often_as_they_shall():
    made = experiment()
    pool = made.splits.train
    ids = sorted(pool.images.records)[:5]
    batches = UnlabeledBatches(
        PixelCache(pool.images, ids, 64, 64, 10**8),
        ids,
        RoundSeed(0, 0),
        batch_size=3,
        device=torch.device("cpu"),
    )
    first = [i for step in range(5) for i in batches(step)[1]]
    assert all(sorted(first[k : k + 5]) == ids for k in (0, 5, 10))
    batches.set_repeats(np.array([1, 3, 1, 2, 2]), 5)
    shown = [i for step in range(5, 8) for i in batches(step)[1]]
    assert sorted(shown) == [ids[0], *[ids[1]] * 3, ids[2], *[ids[3]] * 2, *[ids[4]] * 2]
    batches.set_repeats(np.ones(5, dtype=np.int64), 8)
    assert [i for step in range(8, 13) for i in batches(step)[1]] != first, "counted anew, ordered anew"


def test_weights_of_regions_average_one_and_wait_for_the_warm_up():
    random = torch.Generator().manual_seed(0)
    balance = ClassWeights(3, 2, lr=0.5)
    logits, labels = torch.randn(200, 4, generator=random), torch.tensor([0] * 120 + [1] * 20 + [2] * 5 + [3] * 55)
    assert torch.equal(balance.region_weights(labels, 1.0, 0), torch.ones(200))
    for _ in range(300):
        balance.update(gradient_matrix(logits, labels))
        balance.step()
    weights = balance.weights.detach()
    assert weights[2] > weights[1] > weights[0]
    for _ in range(5000):
        found = balance.region_weights(labels, 1.0, 1)
    assert float(found.mean()) == pytest.approx(1, abs=0.01)
    assert float(found[-60] / found[0]) == pytest.approx(
        float(weights[2].clamp(1 / 3, 5) / weights[0].clamp(1 / 3, 5)), rel=1e-4
    )
    halves = balance.region_weights(labels, 0.5, 0)
    assert float(halves[-60] / halves[0]) == pytest.approx(float(found[-60] / found[0]) ** 0.5, rel=1e-4)


def test_rare_pseudo_boxes_bring_their_images_back():
    """CrS end to end: after a counting, images whose pseudo-boxes are of a rare class are shown more often."""
    made = experiment(**semi(resampling=True, resampling_constant=500.0, refresh=0.5))
    _, objective = trained(made, MemoryStore(), steps=12)
    repeats = [record["mean_repeat"] for record in objective.log.records]
    assert repeats[0] == 1.0
    assert repeats[-1] > 1.0


class Spying:
    """A student that remembers what it is told."""

    def __init__(self, detector):
        self.detector, self.told = detector, None

    def __getattr__(self, name):
        return getattr(self.__dict__["detector"], name)

    def pseudo_label_losses(self, images, pseudo, background):
        regions = [torch.tensor([[1.0, 2.0, 20.0, 30.0]])] * len(images)
        self.told = images, pseudo, background(regions)
        return {"loss_classifier": torch.ones(len(images))}


def spied(flip, **changes):
    made = experiment(**semi(strength=0.0, **changes))
    labeled = dict(list(made.splits.train.dataset.annotations.items())[:10])
    student = Spying(made.new_detector(0))
    objective = objective_of(made, student, labeled, 10, flip=flip)
    objective.begin(WeightAverage(student.module, 0.5).tensors)
    student.module.train()
    return made, student, objective


def test_the_student_is_told_where_things_are_in_its_own_view():
    _, student, objective = spied(1.0)
    terms, ids = objective(0)
    images, pseudo, background = student.told
    weak, unlabeled_ids = objective._unlabeled(0)
    assert ids[-3:] == unlabeled_ids
    assert all(torch.equal(seen, image.flip(-1)) for seen, image in zip(images, weak, strict=True))
    found = objective.teacher._detector.detect(weak)
    boxes = [f["boxes"][f["scores"] > 0.06] for f in found]
    assert sum(map(len, boxes)) > 3
    for told, seen in zip(pseudo, boxes, strict=True):
        wide = ((seen[:, 2:] - seen[:, :2]) >= 1).all(dim=1)
        assert torch.allclose(told.boxes, mirrored(seen[wide], 64))
    there = objective.teacher._detector.cached_features(weak).classified_regions(
        [torch.tensor([[44.0, 2.0, 63.0, 30.0]])] * 3
    )
    assert torch.allclose(torch.cat(background), torch.cat([said[:, -1] for said, _ in there]))
    assert torch.equal(terms["unlabeled_loss_classifier"], torch.full((3,), 4.0)), "the published weight"


def test_the_teacher_waits_for_the_burn_in():
    _, student, objective = spied(0.0, burn_in=0.5)
    terms, ids = objective(4)
    assert student.told is None
    assert len(ids) == 3
    assert not [name for name in terms if name.startswith("unlabeled_")]
    objective(5)
    assert student.told is not None


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
    assert torch.allclose(objective.balance.matrix, 2 * expected, rtol=1e-5), "a region counts as far as it is believed"
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


def test_frequencies_of_labeled_and_pseudo_labeled_images_count_together():
    """CrS by hand: class 9 is on one of the 10 + 2 images, class 0 on all others."""
    made, _, objective = spied(0.0, resampling=True, resampling_constant=48.0, refresh=0.1)
    objective._labeled.labels = [np.zeros(1, dtype=np.int64)] * 10
    objective.resampling.latest = {3: (np.array([9]), np.array([0.3])), 5: (np.array([0]), np.array([0.3]))}
    objective._resample(5)
    # r_9 = sqrt(48 * 0.5 / (1 / 12)) = 17, times 0.3 is 5.1; r_0 = sqrt(24 * 12 / 11) = 5.1, times 0.3 is 1.5
    assert objective._unlabeled.repeats[3] == 6
    assert objective._unlabeled.repeats[5] == 2
    assert objective._unlabeled.repeats.sum() == 6 + 2 + len(made.splits.train.dataset.images) - 10 - 2
    assert objective._unlabeled.since == 5


def test_the_report_tells_what_the_teacher_said(tmp_path):
    tree = small_tree(**semi(**ALL), **{"strategy.name": "random"})
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    (page, *_) = write_report(compare_runs([tmp_path / "run"]), tmp_path / "page.html", "taught")
    text, last = page.read_text(), rounds[-1].training_log[-1]
    assert "Pseudo-labels of the teacher: run, round 2" in text
    cells = [
        f"{last['class_weights'][0]:.2f}",
        f"{last['thresholds'][0]:.2f}",
        *(str(last[k][0]) for k in ("pseudo", "right", "true")),
    ]
    assert "<td>0</td>" + "".join(f"<td>{cell}</td>" for cell in cells) in text
    assert "negative" not in text
    plain = run_experiment(parse_config(small_tree(**{"loop.rounds": 1})), tmp_path / "plain", TABLE)
    assert not plain[0].training_log
    (page, *_) = write_report(compare_runs([tmp_path / "plain"]), tmp_path / "plain.html", "plain")
    text = page.read_text()
    assert "Pseudo-labels of the teacher" not in text
    assert "1 run: entropy; seed 0; " in text
    assert "boxes as predicted" not in text, "nothing was bought, so nothing was predicted"


def test_precision_and_recall_of_each_epoch():
    course = [{"pseudo": [4, 0], "right": [3, 0], "true": [3, 3]}, {"pseudo": [0, 0], "right": [0, 0], "true": [2, 0]}]
    precision, recall = precision_recall(course)
    assert precision[0] == 0.75
    assert np.isnan(precision[1])
    assert recall == [0.5, 0.0]


def test_names_beside_lines_are_apart_and_near():
    crowded = apart(np.array([0.9] * 5), 0.1)
    assert crowded == pytest.approx([0.7, 0.8, 0.9, 1.0, 1.1]), "around the common value"
    assert apart(np.array([0.1, 0.5, 0.55, 2.0]), 0.1) == pytest.approx([0.1, 0.475, 0.575, 2.0]), "only who must moves"


def test_of_many_classes_the_outer_ones_are_named():
    names = [f"class {k}" for k in range(30)]
    course = [{"step": step, "thresholds": [0.5 + k / 1000 for k in range(30)]} for step in (1, 2)]
    (axes,) = draw_training_log(course, names).axes
    assert [text.get_text() for text in axes.texts] == [*names[: MOST_NAMES // 2], *names[-MOST_NAMES // 2 :]]
    places, (low, high) = [text.xyann[1] for text in axes.texts], axes.get_ylim()
    assert np.diff(places).min() > 0.07 * (high - low)
