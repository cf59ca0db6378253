"""Influence against actual retraining, and what the strategy records and refuses."""

import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
import torch

from alloop.errors import ConfigError, StrategyError
from alloop.loop.engine import run_experiment
from alloop.report.page import write_report
from alloop.results.compare import compare_runs
from alloop.results.status import status_blocks
from alloop.strategy import make_strategy
from alloop.tables import plain
from alloop.testing import FakeDetector, fake_annotations, make_query
from alloop.values import ImageId
from strategies import TABLE
from strategies.influence import Influence
from strategies.inverse_hessian import DivergedError
from tests.support.softmax import Softmax, golden_detector


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
