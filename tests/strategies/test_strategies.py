"""Every strategy keeps the contract, and strategies that break it are refused."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import AlloopError, ConfigError, StrategyError
from alloop.query import Query
from alloop.strategy import checked_selection, describe, make_strategy
from alloop.testing import FakeDetector, make_query, strategy_checks
from alloop.values import Detections, Selection
from strategies import TABLE
from strategies.box_uncertainty import class_distribution
from strategies.entropy import detection_entropy
from strategies.k_center import farthest_first, k_center_greedy
from strategies.least_confidence import detection_doubt
from strategies.margin import detection_closeness

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("check", strategy_checks(), ids=lambda check: check.__name__)
def test_contract(name, check):
    check(make_strategy(name, {}, TABLE))


@dataclasses.dataclass(frozen=True)
class Broken:
    """A strategy that breaks one clause; `how` says which."""

    how: str
    needs: ClassVar = frozenset()
    source: ClassVar = "nowhere"
    memory: ClassVar[list] = []

    def select(self, query: Query) -> Selection:
        ids, count = list(query.unlabeled), query.count
        if self.how == "head":
            ids = sorted(ids)
        elif self.how == "global":
            ids = [sorted(ids)[i] for i in np.random.permutation(len(ids))]  # noqa: NPY002
        elif self.how == "memory":
            self.memory.append(0)
            ids = [sorted(ids)[i] for i in np.random.default_rng(len(self.memory)).permutation(len(ids))]
        elif self.how == "fewer":
            count = max(1, count - 1)
        elif self.how == "outside":
            ids = [-5, *ids]
        elif self.how == "writes":
            object.__setattr__(query, "count", query.count + 1)
        elif self.how == "position":
            pass
        return Selection(tuple(ids[:count]), np.zeros(min(count, len(ids))))


@pytest.mark.parametrize("how", ["head", "global", "memory", "fewer", "outside", "writes", "position"])
def test_broken_strategies_are_refused(how):
    caught = []
    for check in strategy_checks():
        try:
            check(Broken(how))
        except (AssertionError, StrategyError):
            caught.append(check.__name__)
    assert caught, f"no check refuses a strategy that breaks: {how}"


def test_answers_that_are_none_are_refused():
    class Liar:
        needs: ClassVar = frozenset()

        def select(self, query):
            return list(query.unlabeled)

    with pytest.raises(StrategyError, match="expected a Selection"):
        checked_selection(Liar(), make_query())


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("entropi", {}, "did you mean 'entropy'"),
        ("entropy", {"agregation": "max"}, "did you mean 'aggregation'"),
        ("entropy", {"aggregation": "median"}, "aggregation"),
        ("no_such_package.module:Thing", {}, "cannot be imported"),
        ("strategies.entropy:Nothing", {}, "cannot be imported"),
        ("math:sqrt", {}, "not a dataclass"),
    ],
)
def test_wrong_names_and_parameters_are_config_errors(name, parameters, words):
    with pytest.raises(ConfigError, match=words):
        make_strategy(name, parameters, TABLE)


def test_own_strategies_are_named_by_import_path_and_described():
    assert type(make_strategy("strategies.entropy:Entropy", {"aggregation": "max"}, {})).__name__ == "Entropy"
    rows = {row["name"]: row for row in describe(TABLE)}
    assert rows.keys() == TABLE.keys()
    assert rows["k_center"]["needs"] == ["embeddings"]
    assert rows["random"]["parameters"] == {}


def test_random_is_uniform():
    counts = {}
    for seed in range(400):
        for image_id in make_strategy("random", {}, TABLE).select(make_query(random_seed=seed)).image_ids:
            counts[image_id] = counts.get(image_id, 0) + 1
    expected = 400 * 9 / 60
    assert len(counts) == 60
    assert max(abs(c - expected) for c in counts.values()) < 5 * np.sqrt(expected)


# k-center


@pytest.mark.parametrize("case", range(2))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_k_center_reproduces_the_golden_picks(case, dtype):
    golden = json.loads((GOLDEN / "kcenter.json").read_text())["cases"][case]
    features = np.array(golden["X"], dtype=dtype)
    picked = k_center_greedy(features, golden["labeled_rows"], len(golden["picked_rows"]), golden["metric"])
    assert picked == golden["picked_rows"]


def test_k_center_takes_lists_and_narrow_types():
    rows = [[0.0, 0.0], [1.0, 0.0], [5.0, 5.0], [0.0, 3.0]]
    for features in (rows, np.array(rows, dtype=np.int64), np.array(rows, dtype=np.float16)):
        assert k_center_greedy(features, np.array([0]), 2) == [2, 3]


def slow_k_center(features, labeled, k, metric):
    """The definition, word by word."""

    def distance(a, b):
        if metric == "euclidean":
            return ((a - b) ** 2).sum()
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return 1 - (a @ b / lengths if lengths > 0 else 0)

    centers, picked = list(labeled), []
    for _ in range(k):
        best, best_row = -np.inf, None
        for row in range(len(features)):
            if row in centers:
                continue
            d = min((distance(features[row], features[c]) for c in centers), default=np.inf)
            if d > best + 1e-9:
                best, best_row = d, row
        centers.append(best_row)
        picked.append(best_row)
    return picked


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), n=st.integers(2, 25), metric=st.sampled_from(["euclidean", "cosine"]))
def test_k_center_equals_its_definition(data, n, metric):
    chance = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    features = chance.normal(size=(n, 3))
    labeled = chance.choice(n, data.draw(st.integers(0, n - 1)), replace=False).tolist()
    k = data.draw(st.integers(0, n - len(labeled)))
    assert k_center_greedy(features, labeled, k, metric) == slow_k_center(features, labeled, k, metric)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_radius_never_grows_and_coinciding_images_are_never_picked_twice(metric):
    chance = np.random.default_rng(0)
    distinct = chance.normal(size=(20, 5)).astype(np.float32)
    features = np.repeat(distinct, 3, axis=0)
    rows, radii = farthest_first(features, [0], 59, metric)
    assert sorted(rows) == list(range(1, 60))
    assert (np.diff(radii) <= 1e-4).all()
    assert len({tuple(features[row]) for row in [0, *rows[:19]]}) == 20


def test_k_center_takes_no_memory_beside_its_vectors():
    import tracemalloc

    features = np.random.default_rng(0).normal(size=(20_000, 128)).astype(np.float32)
    tracemalloc.start()
    k_center_greedy(features, range(300), 20, "cosine")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * 20_000 * 128 * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.zeros((3, 2)), [0], 3), "2 are not labeled"),
        ((np.zeros((3, 2)), [3], 1), "labeled_rows"),
        ((np.full((3, 2), np.nan), [0], 1), "not finite"),
        ((np.array([["a"]]), [], 1), "numbers"),
        ((np.zeros((3, 2)), [0], 1, "manhattan"), "metric"),
    ],
)
def test_k_center_refuses_what_has_no_answer(arguments, words):
    with pytest.raises(AlloopError, match=words):
        k_center_greedy(*arguments)


# uncertainty


def detections(*rows):
    p = np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    return Detections(np.zeros((len(p), 4)), p.max(axis=1), p.argmax(axis=1), p)


def test_uncertainties_by_hand():
    found = detections([0.5, 0.25], [0.9, 0.0], [0.2, 0.1])
    assert detection_doubt(found) == pytest.approx([0.5, 0.1, 0.8])
    assert class_distribution(found)[0] == pytest.approx([0.5, 0.25, 0.25])
    assert detection_entropy(found)[0] == pytest.approx(1.5 * np.log(2))
    assert detection_closeness(found) == pytest.approx([0.75, 0.2, 0.5])


def test_sigmoid_posteriors_beyond_one_are_scaled():
    p = class_distribution(detections([0.9, 0.9]))
    assert p[0] == pytest.approx([0.5, 0.5, 0.0])
    assert detection_entropy(detections([0.9, 0.9]))[0] == pytest.approx(np.log(2))


@pytest.mark.parametrize(("aggregation", "expected"), [("max", 0.8), ("mean", 0.65), ("sum", 1.3)])
def test_box_to_image(aggregation, expected):
    class Two(FakeDetector):
        def detections(self, image_ids):
            return [detections([0.5, 0.0], [0.2, 0.0], [0.05, 0.0]) for _ in image_ids]

    query = dataclasses.replace(make_query(), detector=Two())
    selection = make_strategy("least_confidence", {"aggregation": aggregation}, TABLE).select(query)
    assert selection.utilities == pytest.approx([expected] * 9)


def test_images_without_detections_come_last():
    query = make_query(count=60)
    for name in ("entropy", "margin", "least_confidence"):
        selection = make_strategy(name, {}, TABLE).select(query)
        counts = np.array([len(d) for d in query.detector.detections(selection.image_ids)])
        empty = np.flatnonzero(counts == 0)
        assert len(empty) > 0
        assert empty.min() == len(counts) - len(empty)


def test_the_strategy_of_the_docs_keeps_the_contract(tmp_path, monkeypatch):
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    (tmp_path / "most_boxes.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    strategy = make_strategy("most_boxes:MostBoxes", {"score_threshold": 0.3}, {})
    for check in strategy_checks():
        check(strategy)
    assert strategy.score_threshold == 0.3
