"""The recursion, conjugate gradients and power iteration against golden vectors and linear algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.inverse_hessian import DivergedError, conjugate_gradient, dot, largest_curvature, norm, s_test
from tests.support.softmax import golden_classifier, golden_detector, padded


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


def test_s_test_is_the_released_one_by_the_classifier_that_is_trained():
    """The golden vectors through cached features, forward over reverse mode, and the fitted classifier."""
    case, seen, truth = golden_classifier()
    v, k = {"head.weight": padded(case["v"])}, case["images_per_repetition"]

    def product(image_id):
        return lambda s: seen.curvature_product([image_id], truth, s)

    parts = [
        s_test(v, [product(i) for i in range(r * k, (r + 1) * k)], case["damp"], {"head.weight": case["scale"]})
        for r in range(case["repetitions"])
    ]
    mean = np.mean([part.s["head.weight"] for part in parts], axis=0)
    expected = padded(case["s_test_stochastic"])
    assert np.abs(mean - expected).max() < 1e-5 * np.abs(expected).max()
    gradient = seen.loss_gradient([3], truth)["head.weight"]
    assert gradient == pytest.approx(padded(golden_detector()[1].gradient(3)), rel=1e-5, abs=1e-7)


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


def test_dot_and_norm():
    a = {"x": np.array([[1.0, 2.0]]), "y": np.array([3.0])}
    assert dot(a, a) == 14
    assert norm(a) == pytest.approx(np.sqrt(14))
