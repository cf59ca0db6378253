"""CSOD equals its definition, its golden sets and its published settings."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import StrategyError
from alloop.testing import FakeDetector, make_query
from alloop.values import Annotations
from strategies.csod import Csod, Prototypes, csod_greedy, published_lambda
from strategies.region_features import unit
from strategies.talisman import Talisman
from tests.support.queries import query

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "csod_graphcut.json").read_text())["cases"][0]


@pytest.mark.parametrize("run", GOLDEN["runs"], ids=lambda run: f"lambda {run['lambda']}")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_class_is_graph_cut(run, dtype):
    vectors = np.array(GOLDEN["prototypes"], dtype=dtype)
    rows = np.arange(len(vectors))
    picked, _ = csod_greedy(Prototypes(rows, np.zeros_like(rows), vectors), GOLDEN["budget"], run["lambda"])
    assert sorted(picked) == run["selected_set"]


def slowly(prototypes, k, weights, *, chosen=(), propagate=True):
    """Equation (4) with every cosine written out."""
    vector = {
        (int(i), int(c)): v / max(np.linalg.norm(v), 1e-300)
        for i, c, v in zip(prototypes.image, prototypes.label, prototypes.vector, strict=True)
    }
    classes = sorted(set(prototypes.label.tolist()))
    left = {c: sorted(i for i, d in vector if d == c and i not in chosen) for c in classes}
    taken = {c: [i for i in chosen if (i, c) in vector] for c in classes}
    classes.sort(key=lambda c: len(taken[c]))
    picked, scores = [], []
    while len(picked) < k and any(left.values()):
        for c in classes:
            if len(picked) == k or not left[c]:
                continue
            score = {
                i: weights * sum(vector[i, c] @ vector[j, c] for j in left[c])
                - sum(vector[i, c] @ vector[j, c] for j in taken[c])
                for i in left[c]
            }
            best = max(score.values())
            row = min(i for i in score if score[i] >= best - 1e-9)
            picked.append(row)
            scores.append(best)
            for d in classes:
                if row in left[d]:
                    left[d].remove(row)
                    if propagate or d == c:
                        taken[d].append(row)
    return picked, scores


def drawn(seed, images=14, classes=3, width=4):
    random = np.random.default_rng(seed)
    shows = random.random((images, classes)) < 0.6
    image, label = np.nonzero(shows)
    return Prototypes(image, label, random.normal(size=(len(image), width)))


@settings(max_examples=120)
@given(st.integers(0, 10**6), st.integers(1, 14), st.sampled_from([0.0, 0.03, 0.3, 3.0, 1e10]), st.booleans())
def test_the_running_sums_equal_the_definition(seed, k, weight, propagate):
    prototypes = drawn(seed)
    chosen = [0, 3] if seed % 2 else []
    expected, scores = slowly(prototypes, k, weight, chosen=chosen, propagate=propagate)
    picked, found = csod_greedy(prototypes, k, weight, chosen=chosen, propagate=propagate)
    assert picked == expected
    assert found == pytest.approx(scores, rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_a_smaller_budget_is_the_head_of_a_larger_one(seed):
    prototypes = drawn(seed)
    whole, _ = csod_greedy(prototypes, 14, 0.2)
    assert len(set(whole)) == len(whole)
    assert csod_greedy(prototypes, 5, 0.2)[0] == whole[:5]


def test_turns_go_round_and_classes_that_are_used_up_are_skipped():
    image = np.array([0, 1, 2, 3, 4, 5])
    label = np.array([0, 0, 0, 0, 1, 2])
    picked, _ = csod_greedy(Prototypes(image, label, np.eye(6)), 6, 0.1)
    assert picked == [0, 4, 5, 1, 2, 3]
    assert csod_greedy(Prototypes(image[:0], label[:0], np.zeros((0, 6))), 6, 0.1) == ([], [])


def test_length_does_not_matter_and_zero_is_like_nothing():
    prototypes = drawn(5)
    scaled = prototypes._replace(vector=prototypes.vector * np.linspace(0.1, 90, len(prototypes.image))[:, None])
    assert csod_greedy(prototypes, 9, 0.1)[0] == csod_greedy(scaled, 9, 0.1)[0]
    assert np.array_equal(unit(np.array([[0.0, 0], [3, 4]])), [[0, 0], [0.6, 0.8]])
    with pytest.raises(StrategyError, match="not finite"):
        csod_greedy(prototypes._replace(vector=prototypes.vector * np.inf), 3, 0.1)


def test_the_callers_vectors_are_left_alone():
    prototypes = drawn(2)
    before = prototypes.vector.copy()
    csod_greedy(prototypes, 5, 0.1)
    assert np.array_equal(prototypes.vector, before)


def test_no_more_than_the_vectors_and_one_copy_are_held():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(4000, 64)).astype(np.float32)
    prototypes = Prototypes(np.arange(4000), np.zeros(4000, np.int64), vectors)
    tracemalloc.start()
    csod_greedy(prototypes, 50, 0.05)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.6 * vectors.nbytes, "an n by n matrix would be 64 times the vectors"


def test_published_lambdas():
    expected = {50: 0.025, 100: 0.025, 200: 0.04375, 500: 0.0625, 1000: 0.125, 5000: 0.125}
    assert {k: published_lambda(k) for k in expected} == expected
    assert published_lambda(150) == pytest.approx((0.025 + 0.04375) / 2)
    assert published_lambda(2000, "bdd") == 0.1875
    assert published_lambda(400, "coco") == 0.05


@pytest.mark.parametrize(
    ("table", "sample", "images", "chosen", "published"),
    [
        ("voc", None, [1281] * 20, 200, 0.04375),
        ("bdd", 5000, [69_000, 57_000, 40_000, 22_000, 20_000, 9_600, 4_500, 3_200, 2_180, 120], 500, 0.0675),
        ("coco", 30_000, [64_115, *[3_533] * 79], 800, 0.1),
    ],
)
def test_lambda_is_the_published_one_on_data_of_the_shape_that_it_was_tuned_on(
    table, sample, images, chosen, published
):
    """With `sample` as published; on another set the sum that lambda weighs has another size."""
    label = np.repeat(np.arange(len(images)), images)
    prototypes = Prototypes(np.arange(len(label)), label, np.ones((len(label), 1)))
    lambdas = Csod(lambda_table=table, sample=sample).lambdas(chosen, prototypes)
    assert set(lambdas) == set(range(len(images)))
    assert list(lambdas.values()) == pytest.approx([published] * len(images), rel=0.02)


def test_lambda_is_that_of_all_images_that_are_chosen_in_the_end(monkeypatch):
    seen = []
    monkeypatch.setattr(Csod, "lambdas", lambda _, chosen, __: seen.append(chosen) or 0.05)
    asked = query(count=9)
    Csod(annotations="true").select(asked)
    assert seen == [len(asked.labeled) + 9]


@pytest.mark.parametrize("asked_for", [5, 7, 10, 20, 25])
def test_what_rounds_of_any_size_buy_is_no_less_balanced_than_what_random_buys(asked_for):
    """The classes take turns over all rounds; with a new turn of the first class in every round they would not."""
    random, classes, images = np.random.default_rng(0), 20, 600
    shows = np.zeros((images, classes), dtype=bool)
    shows[np.arange(images), random.integers(classes, size=images)] = True
    shows |= random.random((images, classes)) < 0.02
    image, label = np.nonzero(shows)
    prototypes = Prototypes(image, label, random.normal(size=(len(image), 8)))
    chosen = []
    for _ in range(6):
        left_out = np.zeros(images, dtype=bool)
        chosen += csod_greedy(prototypes, asked_for, 0.05, chosen=chosen, left_out=left_out)[0]
    assert len(set(chosen)) == 6 * asked_for
    by_chance = [entropy(shows[random.permutation(images)[: len(chosen)]]) for _ in range(200)]
    assert entropy(shows[chosen]) > np.mean(by_chance)
    served = shows[chosen].sum(axis=0)
    assert served.max() <= 2.5 * np.mean(served), "no class is served far more than the others"


def entropy(shows):
    shares = shows.sum(axis=0) / shows.sum()
    return -(shares[shares > 0] * np.log(shares[shares > 0])).sum()


def test_the_first_turn_is_that_of_the_class_that_was_served_least():
    image, label = np.arange(9), np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    prototypes = Prototypes(image, label, np.eye(9))
    assert [label[row] for row in csod_greedy(prototypes, 4, 0.1, chosen=[0, 1, 6])[0]] == [1, 2, 0, 1]
    assert [label[row] for row in csod_greedy(prototypes, 4, 0.1)[0]] == [0, 1, 2, 0]


def test_lambda_follows_the_size_of_the_classes():
    image, label = np.arange(40), np.array([0] * 10 + [1] * 30)
    prototypes = Prototypes(image, label, np.ones((40, 2)))
    assert Csod().lambdas(200, prototypes) == pytest.approx(dict.fromkeys((0, 1), 0.04375 * 1281 / 20))
    assert Csod(class_lambda=True).lambdas(200, prototypes) == pytest.approx({0: 4.375 * 1.281, 1: 0.04375 * 42.7})
    assert Csod(lambda_=0.2).lambdas(200, prototypes) == {0: 0.2, 1: 0.2}
    assert Csod(lambda_=0.2, class_lambda=True).lambdas(200, prototypes)[0] == pytest.approx(0.2 * 128.1)


@pytest.mark.parametrize(
    "settings_",
    [
        {},
        {"features": "classifier"},
        {"features": "gradient"},
        {"class_lambda": True},
        {"propagate": False},
        {"sample": 4},
        {"discard": True},
        {"annotations": "true"},
    ],
    ids=str,
)
def test_every_option_changes_the_choice(settings_):
    asked = query()
    assert set(Csod(**settings_).select(asked).image_ids) != set(Csod(lambda_=0.5).select(asked).image_ids)
    if settings_:
        assert Csod(**settings_).select(asked).image_ids != Csod().select(asked).image_ids


def test_a_sample_bounds_what_can_be_chosen():
    asked = query(count=60)
    candidates = asked.candidates()
    strategy = Csod(annotations="true", sample=2)
    prototypes = strategy.prototypes(asked, [*candidates, *sorted(asked.labeled)], {**asked.truth, **asked.labeled})
    left_out = strategy._not_sampled(asked, prototypes, len(candidates))
    for label in np.unique(prototypes.label):
        members = prototypes.image[(prototypes.label == label) & (prototypes.image < len(candidates))]
        assert (~left_out[members]).sum() >= min(2, len(members))
    assert (~left_out[: len(candidates)]).sum() <= 6
    assert not left_out[len(candidates) :].any(), "labeled images are never left out"


@pytest.mark.parametrize("strategy", [Csod, Talisman])
def test_only_true_annotations_say_what_an_image_costs(strategy):
    asked = query()
    assert strategy().select(asked).predicted_boxes is None, "the loop predicts the cost of every strategy alike"
    selection = strategy(annotations="true").select(asked)
    assert selection.predicted_boxes.tolist() == [len(asked.truth[i]) for i in selection.image_ids]


def test_discarding_avoids_the_first_choice():
    asked = query(count=9)
    empty = dataclasses.replace(asked, labeled={})
    first = Csod(annotations="true", lambda_=0.1).select(empty).image_ids
    second = Csod(annotations="true", lambda_=0.1, discard=True).select(empty).image_ids
    assert not set(first) & set(second)


def test_what_is_discarded_was_never_labeled():
    asked = query(count=9)
    first = Csod(annotations="true", lambda_=0.1).select(asked).image_ids
    second = Csod(annotations="true", lambda_=0.1, discard=True).select(asked).image_ids
    assert not set(first) & set(second), "the first choice is made beside the labeled images, too"


class Regions(FakeDetector):
    """The vector of a box is its coordinates; the boxes of the last call are kept."""

    def region_features(self, image_ids, boxes):
        self.asked = dict(boxes)
        return [b.astype(np.float32) for b in boxes.values()]


def test_prototypes_are_means_over_the_boxes_of_a_class():
    truth = Annotations(
        boxes=[[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 9, 9], [1, 1, 40, 40]],
        labels=[1, 1, 0, 1],
        crowd=[False, False, False, True],
        trainable=[True, True, True, False],
    )
    asked = make_query(unlabeled=1, labeled=0, count=1)
    asked = dataclasses.replace(asked, truth={asked.unlabeled[0]: truth}, detector=Regions())
    found = Csod(annotations="true").prototypes(asked, asked.unlabeled, asked.truth)
    assert found.label.tolist() == [0, 1]
    assert found.vector.tolist() == [[5, 5, 9, 9], [0, 0, 15, 15]]


def test_wrong_numbers_are_refused():
    for wrong in ({"lambda_": -1}, {"sample": 0}, {"lambda_": float("nan")}):
        with pytest.raises(ValueError, match="expected"):
            Csod(**wrong)
    with pytest.raises(ValueError, match="expected"):
        Talisman(queries=0)
