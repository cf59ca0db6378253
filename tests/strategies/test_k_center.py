"""k-center greedy equals its definition and the golden picks."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import AlloopError
from strategies.k_center import farthest_first, k_center_greedy

GOLDEN = Path(__file__).parents[1] / "golden"


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
