"""How AP goes on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.results.forecast import NOISE, NOISE_WEIGHT, SLOPES, forecast
from alloop.results.forecast_words import RunForecast
from alloop.results.forecasts import run_forecasts
from tests.support import small_tree
from tests.support.commands import call

BOXES = np.array([100.0, 200, 300, 400, 500, 600])


def curve(n, c=0.5, k=300.0, b=1.1):
    return c / (1 + (k / n) ** b)


def sampled(n, y, guess, draws=400_000, seed=0):
    """The same posterior by importance sampling from the prior: AP at both ends and the ceiling between 0 and 1."""
    random = np.random.default_rng(seed)
    first, last, c = random.uniform(0, 1, (3, draws))
    keep = (first < last) & (last < c)
    first, last, c = first[keep], last[keep], c[keep]
    odds = np.log(first / (c - first)), np.log(last / (c - last))
    b = (odds[1] - odds[0]) / np.log(n[-1] / n[0])
    log_k = np.log(n[0]) - odds[0] / b
    inside = (SLOPES[0] < b) & (b < SLOPES[1]) & (np.log(n[0] / 10) < log_k) & (log_k < np.log(n[-1] * 50))
    b, log_k, c = b[inside], log_k[inside], c[inside]
    residuals = sum((value - curve(boxes, c, np.exp(log_k), b)) ** 2 for boxes, value in zip(n, y, strict=True))
    weights = (NOISE_WEIGHT * guess**2 + residuals) ** (-(NOISE_WEIGHT + len(n)) / 2)
    return b, log_k, c, weights / weights.sum()


def quantile(values, weights, share):
    order = np.argsort(values)
    return values[order][np.searchsorted(np.cumsum(weights[order]), share)]


@pytest.mark.parametrize("ap", [[0.1, 0.16, 0.22], [0.3, 0.33, 0.345, 0.36], [0.05, 0.2, 0.21, 0.25, 0.26]])
def test_the_grid_agrees_with_samples_from_the_prior(ap):
    """Of the samples only those that AP fits have weight; a wide guess of the noise keeps enough of them."""
    n = BOXES[: len(ap)]
    found = forecast(n, ap, "ap50")
    b, log_k, c, weights = sampled(n, ap, NOISE["ap50"])
    assert 1 / (weights**2).sum() > 200
    for boxes in (150, 600, 1200):
        values = curve(boxes, c, np.exp(log_k), b)
        expected = [quantile(values, weights, share) for share in (0.5, 0.025, 0.975)]
        estimate = found.ap(boxes)
        assert [estimate.median, estimate.low, estimate.high] == pytest.approx(expected, abs=0.02)


def test_intervals_hold_as_often_as_they_say():
    random, held, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        truth = {"c": random.uniform(0.3, 0.8), "k": random.uniform(100, 800), "b": random.uniform(0.7, 1.6)}
        seen = curve(BOXES, **truth) + random.normal(0, 0.01, len(BOXES))
        estimate = forecast(BOXES, seen).ap(1200)
        held += estimate.low <= curve(1200, **truth) <= estimate.high
    assert held / trials > 0.88


@given(st.lists(st.floats(0, 1), min_size=3, max_size=12), st.floats(1, 1e6), st.floats(0.01, 0.99))
def test_whatever_the_rounds_are_the_figures_are_in_order(ap, first, target):
    found = forecast(first * np.arange(1, len(ap) + 1), ap)
    assert found.weights.sum() == pytest.approx(1)
    assert (found.weights >= 0).all()
    near, far = found.ap(found.paid), found.ap(3 * found.paid)
    for low, value, high in ((e.low, e.median, e.high) for e in (near, far)):
        assert 0 <= low <= value <= high <= 1
    assert near.median <= far.median + 1e-9
    assert found.gain(100).low >= -1e-9
    boxes, higher = found.boxes_for(target), found.boxes_for(min(1.0, target + 0.005))
    assert 0 < boxes.low <= boxes.median <= boxes.high
    assert higher.median >= boxes.median


def test_boxes_for_a_target_is_the_inverse_of_ap():
    found = forecast(BOXES, curve(BOXES))
    for boxes in (700.0, 1500.0):
        assert found.boxes_for(found.ap(boxes).median).median == pytest.approx(boxes, rel=0.01)
    assert found.boxes_for(0.99).high == np.inf


def test_exact_rounds_give_the_curve_that_they_lie_on():
    n = 100.0 * np.arange(1, 41)
    found = forecast(n, curve(n))
    assert found.ap(8000).median == pytest.approx(curve(8000), abs=0.002)
    assert found.ap(8000).high - found.ap(8000).low < 0.02


def test_the_unit_of_boxes_does_not_matter_and_the_same_rounds_give_the_same_bits():
    found, scaled = forecast(BOXES, curve(BOXES)), forecast(1000 * BOXES, curve(BOXES))
    assert scaled.boxes_for(0.4).median == pytest.approx(1000 * found.boxes_for(0.4).median, rel=1e-6)
    assert np.array_equal(forecast(BOXES, curve(BOXES)).weights, found.weights)


@pytest.mark.parametrize(
    ("boxes", "ap"),
    [
        ([], []),
        ([100, 200], [0.1, 0.2]),
        ([100, 100, 200, 200], [0.1, 0.1, 0.2, 0.2]),  # two rounds that bought something
        ([0, 100, 200], [0.0, 0.1, 0.2]),
        ([100, 200, 300], [0.1, float("nan"), 0.2]),
    ],
)
def test_too_few_rounds_say_nothing(boxes, ap):
    assert forecast(boxes, ap) is None


def test_of_rounds_with_equally_many_boxes_the_last_counts():
    repeated = forecast([100, 200, 200, 300], [0.1, 0.05, 0.2, 0.25])
    assert np.array_equal(repeated.weights, forecast([100, 200, 300], [0.1, 0.2, 0.25]).weights)


def one_of(c=0.5, rounds=6):
    n = BOXES[:rounds]
    return RunForecast("a", tuple(n.tolist()), tuple(curve(n, c).tolist()), forecast(n, curve(n, c)))


def test_a_target_is_told_up_to_twice_the_boxes_paid():
    one = one_of()
    assert one.target(0.2) == "reached after 300 boxes"
    assert one.target(0.345).startswith("after ")
    assert "more than paid" in one.target(0.345)
    assert "to more than 1200)" in one.target(0.39)
    assert one.target(0.46).startswith("not before ")
    assert one.target(0.9) == "not within 1200 boxes, twice what is paid (95 %); more cannot be said"
    assert one.after(5000) == "cannot be said beyond 1200 boxes, twice what is paid"
    assert one.after(None).endswith(" after 1200 boxes")
    assert one_of(rounds=2).target(0.9) == one_of(rounds=2).after(None) == "needs 3 rounds that bought boxes"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    import yaml

    folder = tmp_path_factory.mktemp("forecast")
    (folder / "c.yaml").write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 3, "training.iterations": 2})))
    call("run", folder / "c.yaml", "--out", folder / "run", "--quiet")
    return folder / "run"


def test_the_command_prints_a_row_for_each_run(run):
    (one,) = run_forecasts(run)
    text = call("forecast", run, "--target-ap", "0.7", "--boxes", "40").output
    assert one.target(0.7) in text
    assert one.after(40.0) in text
    assert one.after(None) in call("forecast", run).output
    assert f"forecast AP {one.after(None)}, twice those paid" in call("status", run).output
    (tree,) = json.loads(call("forecast", run, "--target-ap", "0.999", "--format", "json").output)
    assert tree["boxes_for"]["high"] is None
    assert tree["boxes_for"]["target"] == 0.999
    assert tree["tested_up_to_boxes"] == 2 * one.curve.paid
    assert "after" not in tree


def test_replicates_and_runs_on_all_labels_have_no_forecast(tmp_path, monkeypatch):
    from dataclasses import replace

    from alloop.results import forecasts
    from tests.support.runs import run as written

    plain = written("random", [10, 20, 30], [0.1, 0.2, 0.25])
    repeated = written("random", [10, 20, 30], [0.1, 0.2, 0.25], replicate=1)
    monkeypatch.setattr(forecasts, "find_runs", lambda _: [plain, repeated, replace(plain, full_label=True)])
    assert len(run_forecasts(tmp_path)) == 1


def test_a_folder_without_a_curve_is_refused(tmp_path, run):
    assert "no run" in call("forecast", tmp_path, code=2).output
    call("forecast", run, "--target-ap", "1.2", code=2)
