"""ISAL: influence by its golden vectors, its derivation and actual retraining; the methods it is compared with."""

import dataclasses
import json
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import ConfigError, StrategyError
from alloop.loop.engine import run_experiment
from alloop.report.page import write_report
from alloop.results.compare import compare_runs
from alloop.results.status import status_blocks
from alloop.strategy import make_strategy
from alloop.tables import plain
from alloop.testing import FakeDetector, fake_annotations, make_query
from alloop.values import Annotations, Detections, ImageId
from strategies import TABLE
from strategies.influence import Influence
from strategies.inverse_hessian import DivergedError, conjugate_gradient, dot, largest_curvature, norm, s_test
from strategies.localization_stability import LocalizationStability, stability
from strategies.localization_tightness import contradiction

GOLDEN = Path(__file__).parents[1] / "golden" / "isal_stest.json"


class Softmax(FakeDetector):
    """Softmax regression whose images are rows of X: losses, gradients and curvature are the textbook's."""

    def __init__(self, weight, rows, labels, ridge=0.0):
        super().__init__()
        self.weight = torch.tensor(np.asarray(weight), dtype=torch.float64)
        self.rows = {i: torch.as_tensor(row, dtype=torch.float64) for i, row in rows.items()}
        self.labels = {i: torch.tensor([int(label)]) for i, label in labels.items()}
        self.ridge = ridge

    def loss(self, weight, image_ids, labels=None):
        """Mean over the images."""
        logits = torch.stack([self.rows[i] for i in image_ids]) @ weight.T
        labels = torch.cat([self.labels[i] for i in image_ids]) if labels is None else labels
        return torch.nn.functional.cross_entropy(logits, labels) + 0.5 * self.ridge * (weight**2).sum()

    def gradient(self, image_id, label=None):
        return torch.func.grad(lambda w: self.loss(w, [image_id], label))(self.weight).numpy()

    def loss_gradient(self, image_ids, annotations):
        return {"weight": np.sum([self.gradient(i) for i in image_ids], axis=0)}

    def curvature_product(self, image_ids, annotations, vector):
        slope = torch.func.grad(lambda x: len(image_ids) * self.loss(x, image_ids))
        tangent = torch.as_tensor(vector["weight"])
        return {"weight": torch.func.jvp(slope, (self.weight,), (tangent,))[1].numpy()}

    def pseudo_label_slopes(self, image_ids, direction, score_threshold, labels):
        slopes = [float((self.gradient(i) * direction["weight"]).sum()) for i in image_ids]
        return np.array(slopes), np.ones(len(image_ids))


def golden_detector():
    case = json.loads(GOLDEN.read_text())["cases"][0]
    ids = range(len(case["X"]))
    return case, Softmax(case["W"], dict(zip(ids, case["X"], strict=True)), dict(zip(ids, case["Y"], strict=True)))


def product_of(detector, *image_ids):
    return lambda s: detector.curvature_product(list(image_ids), {}, s)


def test_s_test_is_the_released_one():
    case, detector = golden_detector()
    v, k = {"weight": np.array(case["v"])}, case["images_per_repetition"]
    parts = [
        s_test(v, [product_of(detector, i) for i in range(r * k, (r + 1) * k)], case["damp"], {"weight": case["scale"]})
        for r in range(case["repetitions"])
    ]
    mean = np.mean([part.s["weight"] for part in parts], axis=0)
    assert np.abs(mean - np.array(case["s_test_stochastic"])).max() < 1e-10
    expected = np.array(case["s_test_fixed_point"])
    cosine = (mean * expected).sum() / np.linalg.norm(mean) / np.linalg.norm(expected)
    assert cosine == pytest.approx(case["cosine"], abs=1e-9)
    assert all(part.restarts == 0 and 1 < part.growth < 1 / case["damp"] for part in parts)


def test_conjugate_gradients_find_the_fixed_point():
    case, detector = golden_detector()
    everyone, n = product_of(detector, *range(len(case["X"]))), len(case["X"])
    found = conjugate_gradient(
        {"weight": np.array(case["v"])}, lambda s: {"weight": everyone(s)["weight"] / n}, case["damp"] * case["scale"]
    )
    expected = np.array(case["s_test_fixed_point"]) / case["scale"]
    assert np.abs(found.s["weight"] - expected).max() < 1e-6
    assert found.update < 1e-6


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), damping=st.floats(0.01, 0.5))
def test_the_recursion_ends_at_its_fixed_point(seed, damping):
    chance = np.random.default_rng(seed)
    root = chance.normal(size=(5, 5))
    hessian, v = root @ root.T, chance.normal(size=5)
    scale = 1.1 * np.linalg.eigvalsh(hessian)[-1]

    def product(s):
        return {
            "a": hessian[:2, :2] @ s["a"] + hessian[:2, 2:] @ s["b"],
            "b": hessian[2:, :2] @ s["a"] + hessian[2:, 2:] @ s["b"],
        }

    found = s_test({"a": v[:2], "b": v[2:]}, [product] * 2500, damping, {"a": scale, "b": scale})
    exact = np.linalg.solve(hessian / scale + damping * np.eye(5), v)
    assert np.concatenate([found.s["a"], found.s["b"]]) == pytest.approx(exact, rel=1e-4, abs=1e-8)
    assert found.update < 1e-6
    assert largest_curvature(product, {"a": v[:2], "b": v[2:]}, 2000) == pytest.approx(scale / 1.1, rel=1e-3)


def test_scales_of_each_weight_precondition():
    curvature, v = np.array([2.0, 30.0]), np.array([1.0, 1.0])
    found = s_test(
        {"a": v[:1], "b": v[1:]},
        [lambda s: {"a": curvature[:1] * s["a"], "b": curvature[1:] * s["b"]}] * 3000,
        0.01,
        {"a": 10.0, "b": 100.0},
    )
    assert found.s["a"][0] == pytest.approx(1 / (2 / 10 + 0.01))
    assert found.s["b"][0] == pytest.approx(1 / (30 / 100 + 0.01))


def test_a_weight_whose_product_is_not_finite_goes_back_to_v():
    v = {"a": np.ones(2), "b": np.ones(2)}
    good = lambda s: {"a": s["a"], "b": s["b"]}  # noqa: E731
    bad = lambda s: {"a": np.array([np.nan, 1.0]), "b": s["b"]}  # noqa: E731
    found = s_test(v, [good, good, bad], 0.0, {"a": 10.0, "b": 10.0})
    assert found.s["a"] == pytest.approx(v["a"])
    assert found.s["b"] == pytest.approx(1 + 0.9 + 0.9**2 + 0.9**3 - 0 * v["b"])
    assert found.restarts == 1


def test_a_diverging_recursion_names_scale_and_damping():
    with pytest.raises(DivergedError, match=r"scale 1 and damping 0\.01.*strategy\.scale"):
        s_test({"a": np.ones(2)}, [lambda s: {"a": 30 * s["a"]}] * 100, 0.01, {"a": 1.0})


# against actual retraining


def fitted_softmax(ridge=0.05, features=4, classes=3, images=120, seed=0):
    """A regularised softmax regression trained to its minimum, with candidates and a reference set."""
    chance = np.random.default_rng(seed)
    truth = chance.normal(size=(classes, features))
    rows = chance.normal(size=(images + 100, features))
    labels = (rows @ truth.T + chance.gumbel(size=(images + 100, classes))).argmax(axis=1)
    ids = [ImageId(i) for i in range(len(rows))]
    detector = Softmax(
        np.zeros((classes, features)),
        dict(zip(ids, rows, strict=True)),
        dict(zip(ids, labels, strict=True)),
        ridge,
    )
    train, candidates, reference = ids[:images], ids[images : images + 50], ids[images + 50 :]
    retrain(detector, train)
    return detector, train, candidates, reference


def retrain(detector, train, extra=None, weight=0.0):
    """Newton's method on mean loss over `train` plus `weight` times the loss of `extra`."""

    def total(w):
        value = detector.loss(w, train)
        return value if extra is None else value + weight * detector.loss(w, [extra])

    w = detector.weight
    for _ in range(8):
        g, h = torch.func.grad(total)(w), torch.func.hessian(total)(w)
        w = w - torch.linalg.solve(h.reshape(w.numel(), -1), g.flatten()).reshape(w.shape)
    assert torch.func.grad(total)(w).norm() < 1e-10
    detector.weight = w


def query_over(detector, train, candidates, reference, **changes):
    truth = {i: fake_annotations(i) for i in (*train, *candidates, *reference)}
    query = make_query(count=min(9, len(candidates)))
    return dataclasses.replace(
        query,
        unlabeled=tuple(candidates),
        labeled=MappingProxyType({i: truth[i] for i in train}),
        reference=MappingProxyType({i: truth[i] for i in reference}),
        detector=detector,
        reference_detector=detector,
        **changes,
    )


def reference_loss(detector, reference):
    return float(detector.loss(detector.weight, reference))


@pytest.mark.parametrize("solver", ["recursion", "conjugate_gradient"])
def test_influence_predicts_what_retraining_with_the_sample_does(solver):
    detector, train, candidates, reference = fitted_softmax()
    query = query_over(detector, train, candidates, reference)
    query = dataclasses.replace(query, count=len(candidates))
    strategy = Influence(solver=solver, damping=0.002, images=2000, repetitions=1)
    selection = strategy.select(query)
    predicted = dict(zip(selection.image_ids, -selection.utilities, strict=True))
    before, weight, share = reference_loss(detector, reference), detector.weight, 1e-3
    measured = {}
    for candidate in candidates:
        detector.weight = weight
        retrain(detector, train, candidate, share)
        measured[candidate] = (reference_loss(detector, reference) - before) / share
    a = np.array([predicted[c] for c in candidates])
    b = np.array([measured[c] for c in candidates])
    assert np.corrcoef(a, b)[0, 1] > (0.999 if solver == "conjugate_gradient" else 0.95)
    assert (np.sign(a) == np.sign(b)).mean() > 0.9
    if solver == "conjugate_gradient":
        assert a == pytest.approx(b, rel=0.1, abs=0.02 * np.abs(b).max())
    best, worst = selection.image_ids[0], selection.image_ids[-1]
    assert measured[best] < 0 < measured[worst]


def test_soft_labels_of_all_classes_say_nothing():
    """sum_c p_c (p - e_c) = 0: why hard labels, or only some of the classes, are used."""
    _, detector = golden_detector()
    for image_id in range(20):
        p = torch.softmax(detector.rows[image_id] @ detector.weight.T, dim=0).numpy()
        parts = [p[c] * detector.gradient(image_id, torch.tensor([c])) for c in range(3)]
        assert np.abs(sum(parts)).max() < 1e-12
        top2 = np.argsort(-p)[:2]
        assert np.abs(sum(parts[c] for c in top2)).max() > 1e-4


# the strategy


def test_the_largest_slope_along_s_test_comes_first_and_the_figures_are_recorded():
    query = make_query(count=60)
    selection = make_strategy("influence", {"images": 50}, TABLE).select(query)
    strategy = Influence(images=50)
    v = strategy.reference_gradient(query)
    solution, notes = strategy.solve(query, v)
    slopes = query.detector.loss_slopes(selection.image_ids, {}, solution.s)
    boxes = np.array([(d.scores >= 0.1).sum() for d in query.detector.detections(selection.image_ids)])
    ranked = boxes > 0
    assert ranked[: ranked.sum()].all(), "images without pseudo-labels come last"
    assert (np.diff(slopes[ranked]) <= 0).all()
    assert selection.utilities[ranked] == pytest.approx(slopes[ranked], rel=1e-5)
    assert set(selection.utilities[~ranked]) == {selection.utilities.min()}
    assert selection.diagnostics["unscored_images"] == (~ranked).sum()
    assert notes.keys() < selection.diagnostics.keys()
    assert notes["s_test_steps"] == 4 * 50
    assert 0.9 < notes["s_test_agreement"] <= 1 + 1e-12


def test_images_without_pseudo_labels_come_in_random_order():
    class Blind(FakeDetector):
        def pseudo_label_slopes(self, image_ids, direction, score_threshold, labels):
            return np.full(len(image_ids), np.nan), np.zeros(len(image_ids))

    picks = set()
    for seed in range(5):
        query = dataclasses.replace(make_query(random_seed=seed), detector=Blind())
        selection = Influence(images=5).select(query)
        assert selection.diagnostics["unscored_images"] == 60
        assert (selection.utilities == 0).all()
        picks.add(selection.image_ids)
    assert len(picks) == 5


def test_a_slope_that_is_not_finite_is_no_utility():
    class Hot(FakeDetector):
        def pseudo_label_slopes(self, image_ids, direction, score_threshold, labels):
            return np.where(np.arange(len(image_ids)) % 2, np.inf, 1.0), np.ones(len(image_ids))

    selection = Influence(images=5).select(dataclasses.replace(make_query(count=60), detector=Hot()))
    assert selection.diagnostics["unscored_images"] == 30
    assert np.isfinite(selection.utilities).all()


def test_per_box_divides_by_the_predicted_boxes():
    query = make_query(count=60)
    whole, per_box = Influence(images=20).select(query), Influence(images=20, per_box=True).select(query)
    found = query.detector.detections(whole.image_ids)
    boxes = {i: (d.scores >= 0.1).sum() for i, d in zip(whole.image_ids, found, strict=True)}
    utility = dict(zip(whole.image_ids, whole.utilities, strict=True))
    for image_id, value in zip(per_box.image_ids, per_box.utilities, strict=True):
        if boxes[image_id]:
            assert value == pytest.approx(utility[image_id] / boxes[image_id])
    assert per_box.image_ids != whole.image_ids
    assert (whole.diagnostics["utility_per_box"], per_box.diagnostics["utility_per_box"]) == (0, 1)


def test_sum_and_mean_of_the_reference_choose_alike():
    query = make_query()
    mean, total = Influence(images=20).select(query), Influence(images=20, reference="sum").select(query)
    assert mean.image_ids == total.image_ids
    assert total.utilities == pytest.approx(5 * mean.utilities)


def test_released_scales_and_sequential_sampling():
    query = make_query()
    strategy = Influence(rescale="released", sampling="sequential", repetitions=4)
    assert [len(draw) for draw in strategy.draws(query)] == [3, 3, 3, 3]
    order = sorted(query.labeled)
    assert list(strategy.draws(query))[1] == order[1::4]
    _, notes = strategy.solve(query, strategy.reference_gradient(query))
    assert notes["scale"] == 10.0
    assert notes["s_test_steps"] == 12


def test_random_draws_visit_every_image_equally_often():
    query = make_query()
    draws = list(Influence(images=30, repetitions=3).draws(query))
    assert [len(draw) for draw in draws] == [30, 30, 30]
    assert draws[0] != draws[1]
    for draw in draws:
        counts = [draw.count(image_id) for image_id in query.labeled]
        assert max(counts) - min(counts) <= 1
    assert draws == list(Influence(images=30, repetitions=3).draws(query))


def test_a_measured_scale_is_doubled_until_the_recursion_is_bounded():
    class Saddle(FakeDetector):
        def curvature_product(self, image_ids, annotations, vector):
            return {"weight": -3.0 * vector["weight"]}

    query = dataclasses.replace(make_query(), detector=Saddle())
    strategy = Influence(images=300, repetitions=1)
    _, notes = strategy.solve(query, strategy.reference_gradient(query))
    assert notes["s_test_growth"] <= 110
    assert notes["scale"] > 3 / 0.01
    given = Influence(images=300, repetitions=1, scale=6.0)
    with pytest.raises(DivergedError, match=r"strategy\.scale"):
        given.solve(query, given.reference_gradient(query))
    released = Influence(images=300, repetitions=1, rescale="released")
    with pytest.warns(UserWarning, match=r"grew to .*rescale: exact.*scale 10, .*damping, now 0\.01"):
        assert released.select(query).diagnostics["s_test_growth"] > 1e20
    slow = Influence(images=50, repetitions=1, scale=40.0, damping=0.1)
    v = slow.reference_gradient(query)
    with pytest.warns(UserWarning, match=r"raise strategy\.scale.*scale 40, .*damping, now 0\.1"):
        slow.solve(query, v)


def test_a_single_labeled_image_is_enough():
    query = make_query(labeled=1)
    selection = Influence(images=5).select(query)
    assert selection.diagnostics["s_test_agreement"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"damping": 1.5}, "damping"),
        ({"images": 0}, "images"),
        ({"scale": -1.0}, "scale"),
        ({"rescale": "released", "scale": 5.0}, "released"),
        ({"rescale": "released", "solver": "conjugate_gradient"}, "released"),
        ({"pseudo_labels": "soft"}, "pseudo_labels"),
        ({"score_treshold": 0.1}, "did you mean 'score_threshold'"),
    ],
)
def test_wrong_parameters_are_named(parameters, words):
    with pytest.raises(ConfigError, match=words):
        make_strategy("influence", parameters, TABLE)


def test_a_reference_is_needed():
    query = dataclasses.replace(make_query(), reference=MappingProxyType({}))
    with pytest.raises(StrategyError, match=r"no reference images.*data\.reference"):
        Influence().select(query)

    class Flat(FakeDetector):
        def loss_gradient(self, image_ids, annotations):
            return {"weight": np.zeros(8)}

    class Broken(FakeDetector):
        def loss_gradient(self, image_ids, annotations):
            return {"weight": np.full(8, np.nan)}

    for detector, words in ((Flat(), "is zero"), (Broken(), "not finite in .'weight'")):
        with pytest.raises(StrategyError, match=words):
            Influence().select(dataclasses.replace(make_query(), reference_detector=detector))


def test_dot_and_norm():
    a = {"x": np.array([[1.0, 2.0]]), "y": np.array([3.0])}
    assert dot(a, a) == 14
    assert norm(a) == pytest.approx(np.sqrt(14))


# localization stability and tightness


def found(boxes, scores, proposals=None, probabilities=None):
    count = len(scores)
    if probabilities is None:
        probabilities = np.asarray(scores, dtype=np.float64)[:, None]
    boxes = np.asarray(boxes, dtype=np.float32).reshape(count, 4)
    return Detections(boxes, scores, np.zeros(count), probabilities, proposals=proposals)


UNIT = [0, 0, 10, 10]
HALF = [0, 0, 10, 5]  # IoU 1/2 with UNIT
APART = [50, 50, 60, 60]


def test_stability_by_hand():
    clean = found([UNIT, APART], [0.8, 0.2])
    assert stability(clean, [clean, clean]) == pytest.approx(1)
    assert stability(clean, [found([], []), found([], [])]) == 0
    noisy = [found([HALF], [0.3]), found([APART, UNIT], [0.9, 0.1])]
    of_first, of_second = (0.5 + 1) / 2, (0 + 1) / 2
    assert stability(clean, noisy) == pytest.approx(0.8 * of_first + 0.2 * of_second)


def test_nested_boxes_overlap_as_they_do():
    """The released code mirrors the vertical interval; a box inside another is the case that shows it."""
    assert stability(found([[0, 0, 10, 20]], [1.0]), [found([[0, 0, 10, 10]], [1.0])]) == pytest.approx(0.5)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_the_further_boxes_move_the_less_stable(seed):
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 10, (4, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(5, 20, (4, 2))], axis=1)
    scores = np.sort(chance.uniform(0.1, 1, 4))[::-1]
    apart = boxes + 1000 * np.arange(4)[:, None]  # so that no box is matched by another's
    values = [stability(found(apart, scores), [found(apart + shift, scores)]) for shift in (0, 1, 2, 4)]
    assert values[0] == pytest.approx(1, abs=1e-4)
    assert (np.diff(values) < 0).all()


class Shaking(FakeDetector):
    """Image i has one box that moves by i pixels under any noise; every seventh image has none."""

    def noisy_detections(self, image_ids, sigma, random_seed):
        return [found([np.array(UNIT) + int(i) % 7], [0.5]) if i % 7 else found([], []) for i in image_ids]

    def detections(self, image_ids):
        return [found([UNIT], [0.1 + 0.1 * (int(i) % 7)]) if i % 7 else found([], []) for i in image_ids]


def test_least_stable_first_and_images_without_boxes_last():
    query = dataclasses.replace(make_query(count=60), detector=Shaking())
    for parameters in ({}, {"with_confidence": True, "weight": 0.0}):
        order = [i % 7 for i in make_strategy("localization_stability", parameters, TABLE).select(query).image_ids]
        ranked = [kind for kind in order if kind]
        assert order == ranked + [0] * (60 - len(ranked))
        assert ranked == sorted(ranked, reverse=not parameters)  # LS: moves most; U_C alone: doubts most
    both = LocalizationStability(with_confidence=True).select(query)
    kind = both.image_ids[0] % 7
    moved = (10 - kind) ** 2 / (200 - (10 - kind) ** 2)
    assert both.utilities[0] == pytest.approx(1 - (0.1 + 0.1 * kind) - moved)


def test_only_so_many_boxes_are_followed():
    class Two(Shaking):
        def detections(self, image_ids):
            return [found([UNIT, APART], [0.9, 0.1]) for _ in image_ids]

        def noisy_detections(self, image_ids, sigma, random_seed):
            return [found([UNIT], [0.9]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    assert LocalizationStability(max_boxes=1).select(query).utilities == pytest.approx([-1.0] * 9)
    assert LocalizationStability().select(query).utilities == pytest.approx([-0.9] * 9)


def test_confidence_is_the_largest_posterior_of_a_two_stage_detector():
    clean = found([UNIT, APART], [0.2, 0.1], proposals=[UNIT, APART], probabilities=[[0.2, 0.6], [0.2, 0.1]])
    noisy = [found([UNIT], [0.5])]
    assert stability(clean, noisy) == pytest.approx(0.6 / 0.8)


def test_tightness_by_hand():
    loose = found([UNIT], [0.9], proposals=[APART])
    tight = found([UNIT], [0.9], proposals=[UNIT])
    doubtful = found([UNIT], [0.1], proposals=[UNIT])
    assert contradiction(loose) == pytest.approx(0.1)
    assert contradiction(tight) == pytest.approx(0.9)
    assert contradiction(doubtful) == pytest.approx(0.1)
    assert contradiction(found([UNIT, UNIT], [0.9, 0.5], proposals=[UNIT, HALF])) == pytest.approx(0.0)
    assert contradiction(found([], [], proposals=np.zeros((0, 4)))) == 1
    with pytest.raises(StrategyError, match="two-stage"):
        contradiction(found([UNIT], [0.9]))


@pytest.mark.parametrize("parameters", [{"sigmas": []}, {"sigmas": [-1.0]}, {"max_boxes": 0}])
def test_wrong_noise_levels_are_refused(parameters):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        make_strategy("localization_stability", parameters, TABLE)


# confidence as the released code aggregates it


@pytest.mark.parametrize(("aggregation", "chosen"), [("max", 0.1), ("min", 0.8), ("mean", 0.45)])
def test_least_max_and_mean_confidence(aggregation, chosen):
    class Two(FakeDetector):
        def detections(self, image_ids):
            return [found([UNIT, APART], [0.8, 0.1], probabilities=[[0.9], [0.4]]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    parameters = {"aggregation": aggregation, "belief": "score", "score_threshold": 0.0}
    selection = make_strategy("least_confidence", parameters, TABLE).select(query)
    assert selection.utilities == pytest.approx([1 - chosen] * 9)


def test_the_binary_entropy_and_margin_of_the_score():
    class One(FakeDetector):
        def detections(self, image_ids):
            return [found([UNIT], [0.25], probabilities=[[0.9]]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=One())
    entropy = make_strategy("entropy", {"belief": "score"}, TABLE).select(query).utilities
    margin = make_strategy("margin", {"belief": "score"}, TABLE).select(query).utilities
    assert entropy == pytest.approx([-(0.25 * np.log(0.25) + 0.75 * np.log(0.75))] * 9)
    assert margin == pytest.approx([1 - 0.5] * 9)


def test_annotations_are_never_needed_of_the_unlabeled():
    """The query holds none, so a strategy that asked for one would fail here."""
    query = make_query()
    for name in ("influence", "learning_loss", "localization_stability", "localization_tightness"):
        selection = make_strategy(name, {}, TABLE).select(query)
        assert not set(selection.image_ids) & set(query.labeled)
    assert isinstance(next(iter(query.labeled.values())), Annotations)


def test_status_and_report_tell_how_far_to_trust_a_query(tmp_path, small_config):
    config = small_config(**{"strategy": {"name": "influence", "images": 10}, "loop.rounds": 2})
    records = run_experiment(config, tmp_path / "run", TABLE)
    assert records[0].diagnostics["s_test_steps"] == 40
    assert records[1].diagnostics == {}
    status = plain(*status_blocks(tmp_path / "run"))
    assert "query    after round 0: " in status
    assert "s_test_agreement" in status
    page = write_report(compare_runs([tmp_path / "run"]), tmp_path / "report.html", "one run")[0].read_text()
    assert "Diagnostics of the queries" in page
    assert "unscored_images" in page
