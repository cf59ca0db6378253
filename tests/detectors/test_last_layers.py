"""Derivatives in the last layers against slow, obvious references; the loss prediction module beside a detector."""

import dataclasses
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from alloop.config import parse_config
from alloop.data.pixels import PixelCache
from alloop.detectors import fitted_derivatives as fitted_module
from alloop.detectors import last_layers as derivatives
from alloop.detectors.fitted import FittedTorchDetector
from alloop.detectors.fitted_derivatives import pseudo_target, sampling_seed
from alloop.detectors.loss_prediction import LossPredictionModule, attach_module, ranking_loss, training_losses
from alloop.detectors.seeding import seeded
from alloop.detectors.streaming import to_tensor
from alloop.detectors.torchvision.features import evaluating
from alloop.errors import ConfigError, StrategyError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from alloop.query import Need
from alloop.strategy import LossPrediction
from alloop.values import Annotations, ImageId
from strategies import TABLE
from tests.support import small_tree
from tests.support.detectors import NAMES, Source, fitted, make


def scene(*, posteriors=False, dtype=torch.float32):
    """Three images of one size, the second without a box."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 96, generator=generator).to(dtype) for _ in range(3)]
    boxes = [torch.tensor([[4.0, 4, 30, 30], [20, 20, 50, 60]]), torch.zeros(0, 4), torch.tensor([[10.0, 10, 40, 44]])]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64), torch.tensor([0])]
    targets = []
    for b, k in zip(boxes, labels, strict=True):
        target = {"boxes": b.to(dtype), "labels": k, "masks": torch.ones(len(b), 64, 96, dtype=torch.uint8)}
        if posteriors:
            target["posteriors"] = (torch.rand(len(b), 3, generator=generator) / 3).to(dtype)
        targets.append(target)
    return images, targets


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
@pytest.mark.parametrize("name", NAMES)
def test_one_forward_pass_gives_what_a_backward_pass_an_image_gives(name, posteriors):
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
@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
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


def outspoken(name):
    """A detector that finds things: its class prior is lifted, as training would."""
    detector = make(name)
    if name in ("fcos", "retinanet"):
        torch.nn.init.zeros_(detector.module.head.classification_head.cls_logits.bias)
    if name == "fcos":
        torch.nn.init.ones_(detector.module.head.regression_head.bbox_reg.bias)
    return detector


@pytest.mark.parametrize("name", ["fcos", "retinanet", "faster_rcnn"])
def test_scoring_is_that_of_the_detections_as_truth(name):
    detector = outspoken(name)
    seen = fitted(detector, [(96, 64)] * 5, batch_size=5)
    ids = [ImageId(i) for i in range(5)]
    threshold = 0.2
    cut = threshold**detector.score_power
    images = next(iter(seen._batches("", ids)))[1]
    tangent = direction(last_weights(detector))
    vector = {n: v.numpy() for n, v in tangent.items()}
    for labels in ("hard", "posterior"):
        truth = [pseudo_target(found, cut, labels) for found in detector.detect(images)]
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
    cache = PixelCache(pool.images, ids, 120, 160, 2**28)
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
            to_tensor(cache.read(i), torch.device("cpu")),
            seen._target(i, pool.dataset.annotations[i]),
            sampling_seed(i),
            vector,
        )
        for i in ids
    ]
    assert_close(slopes, expected)


@pytest.mark.parametrize(("name", "power"), [("fcos", 0.5), ("retinanet", 1), ("faster_rcnn", 1), ("mask_rcnn", 1)])
def test_a_score_is_a_probability_to_the_power_that_is_said(name, power):
    """A threshold of ISAL's released code is one on the probability, for FCOS class x centerness."""
    detector = outspoken(name)
    assert detector.score_power == power
    images, _ = scene()
    found = detector.detect(images)[0]
    own = found["probabilities"].gather(1, found["labels"][:, None])[:, 0]
    if name == "fcos":  # an untrained centerness says one half
        own = 0.5 * own
    torch.testing.assert_close(found["scores"], own**power, rtol=0.05, atol=0.01)
    middle = float(own.median())
    seen = fitted(detector, [(96, 64)] * 3)
    ids = [ImageId(i) for i in range(3)]
    vector = {n: v.numpy() for n, v in direction(last_weights(detector)).items()}
    _, boxes = seen.pseudo_label_slopes(ids, vector, middle, "hard")
    expected = [int((d.scores >= middle**power).sum()) for d in seen.detections(ids)]
    assert boxes.tolist() == expected


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
        monkeypatch.setattr(fitted_module, "KEPT_BYTES", limit)
        seen._kept.clear()
        again = seen.curvature_product(ids, truth, vector)
        assert len(seen._kept) == kept
        for name in whole:
            assert again[name] == pytest.approx(whole[name], rel=1e-4, abs=1e-6)
    monkeypatch.setattr(fitted_module, "KEPT_BYTES", 100 * one)
    seen.curvature_product(ids, truth, vector)
    monkeypatch.setattr(fitted_module, "KEPT_BYTES", 8 * one)
    seen._kept.clear()
    many = {ImageId(i): truth[ids[i % 4]] for i in range(4)}
    for _ in range(3):
        for image_id in ids:
            other = dataclasses.replace(many[image_id])  # the same boxes in another object are another loss
            seen.curvature_product([image_id], {image_id: other}, vector)
    assert len(seen._kept) == 8


def test_the_noise_is_a_function_of_seed_image_and_sigma():
    detector = outspoken("fcos")
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
        proposals, _ = detector.module.rpn(batch, features, None)
    for mine, every in zip(detector.detect(images), proposals, strict=True):
        apart = (mine["proposals"][:, None] - every[None]).abs().amax(dim=2).min(dim=1).values
        assert float(apart.max()) < 1e-3
    assert fitted(make("fcos"), [(96, 64)]).detections([ImageId(0)])[0].proposals is None


# strategies, detectors and data are checked against each other first


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy.name": "localization_tightness"}, "needs proposals.*'fcos'"),
        ({"strategy.name": "learning_loss", "training.batch_size": 1}, r"training\.batch_size must be 2"),
        (
            {"strategy.name": "influence", "data": {"digit_scenes": {"pool": 9, "reference": 1, "empty": 0.9}}},
            "reference",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(changes, words):
    with pytest.raises(ConfigError, match=words):
        prepare(parse_config(small_tree(**changes)), TABLE)


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


# learning loss


def test_ranking_loss_by_hand():
    predicted = torch.tensor([1.0, 0.2, 0.5, 0.7])
    losses = torch.tensor([3.0, 1.0, 1.0, 2.0])
    # pairs (0, 3): s = +1, 0.3 apart, loss 0.7; (1, 2): a tie counts as s = -1, -0.3 apart, loss 0.7
    assert ranking_loss(predicted, losses, 1.0) == pytest.approx([0.7 / 4] * 4)
    assert float(ranking_loss(predicted, losses, 1.0).sum()) == pytest.approx((0.7 + 0.7) / 2)
    assert float(ranking_loss(10 * predicted, losses, 1.0).sum()) == 0
    odd = ranking_loss(torch.tensor([0.0, 9.0, 0.5]), torch.tensor([1.0, 5.0, 0.0]), 1.0)
    assert odd.tolist() == [0.75, 0.0, 0.75]
    assert ranking_loss(torch.ones(1), torch.ones(1), 1.0).tolist() == [0.0]


def test_the_module_learns_to_order_losses():
    torch.manual_seed(0)
    module = LossPredictionModule(2, 8, LossPrediction(hidden=16))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01)

    def draw(n):
        levels = [torch.rand(n, 8, 4, 4) + torch.rand(n, 8, 1, 1), torch.rand(n, 8, 2, 2)]
        return levels, (levels[0].mean(dim=(2, 3)) @ torch.linspace(-1, 1, 8)).exp()

    for _ in range(300):
        levels, losses = draw(16)
        optimizer.zero_grad()
        ranking_loss(module(levels), losses, 1.0).sum().backward()
        optimizer.step()
    levels, losses = draw(200)
    assert spearmanr(module(levels).detach(), losses)[0] > 0.9


@pytest.mark.parametrize("name", ["fcos", "retinanet", "faster_rcnn"])
def test_detached_the_module_learns_alone(name):
    detector, (images, targets) = make(name), scene()
    plain = {k: v.clone() for k, v in detector.module.state_dict().items()}
    with seeded(1):
        attach_module(detector, LossPrediction())
    detector.module.train()
    with seeded(2):
        terms = training_losses(detector, images, targets)
    with seeded(2):
        own = detector.losses(images, targets)
    assert terms.keys() == {*own, "loss_prediction"}
    assert all(torch.equal(terms[key], own[key]) for key in own)
    terms["loss_prediction"].sum().backward()
    taught = {key for key, p in detector.module.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert taught
    assert all(key.startswith("loss_prediction.") for key in taught)
    assert plain.keys() == {k for k in detector.module.state_dict() if not k.startswith("loss_prediction.")}
    attached = make(name)
    attach_module(attached, LossPrediction(detach=False))
    attached.module.train()
    with seeded(2):
        training_losses(attached, images, targets)["loss_prediction"].sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in attached.module.backbone.parameters())


def files_of(folder):
    with read_ledger(folder) as ledger:
        return ledger.facts(), ledger.rounds()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_detector_is_the_same_with_and_without_the_module(tmp_path, optimizer):
    changes = {"training.optimizer": optimizer, "training.clip_norm": 0.1, "loop.rounds": 1, "training.ema": 0.9}
    for name in ("random", "learning_loss"):
        run_experiment(parse_config(small_tree(**changes, **{"strategy.name": name})), tmp_path / name, TABLE)
    from safetensors.torch import load_file

    plain, beside = (
        load_file(tmp_path / name / "models" / "round_000.safetensors") for name in ("random", "learning_loss")
    )
    assert all(torch.equal(plain[key], beside[key]) for key in plain)
    extra = beside.keys() - plain.keys()
    assert extra
    assert all(key.startswith("loss_prediction.") for key in extra)


def test_learning_loss_goes_on_where_it_stopped(tmp_path, monkeypatch):
    config = parse_config(small_tree(**{"strategy.name": "learning_loss", "training.checkpoint_seconds": 0}))
    straight = run_experiment(config, tmp_path / "straight", TABLE)
    steps = []

    class StoppedError(Exception):
        pass

    original = LossPredictionModule.loss

    def loss(self, levels, losses):
        steps.append(0)
        if len(steps) in (3, 6):
            raise StoppedError
        return original(self, levels, losses)

    monkeypatch.setattr(LossPredictionModule, "loss", loss)
    for _ in range(2):
        with pytest.raises(StoppedError):
            run_experiment(config, tmp_path / "stopped", TABLE)
    resumed = run_experiment(config, tmp_path / "stopped", TABLE)
    assert [r.metrics for r in resumed] == [r.metrics for r in straight]
    assert [r.boxes for r in resumed] == [r.boxes for r in straight]
    assert len(steps) < 3 * 4 + 4, "checkpoints were not used"
    for number in range(3):
        name = f"models/round_{number:03d}.safetensors"
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


@pytest.mark.parametrize("name", ["influence", "localization_stability", "localization_tightness", "learning_loss"])
def test_runs_are_the_same_byte_for_byte(tmp_path, name):
    changes = {"strategy": {"name": name}, "detector.name": "faster_rcnn", "loop.rounds": 2}
    if name == "influence":
        changes["strategy"] = {"name": name, "images": 20, "score_threshold": 0.05}
    for out in ("a", "b"):
        run_experiment(parse_config(small_tree(**changes)), tmp_path / out, TABLE)
    with read_ledger(tmp_path / "a") as a, read_ledger(tmp_path / "b") as b:
        assert a.charges() == b.charges()
        assert [r.metrics for r in a.rounds()] == [r.metrics for r in b.rounds()]
