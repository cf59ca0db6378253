"""Intervals over test groups equal those of a slow second implementation, and what cannot be resampled is refused."""

import numpy as np
import pytest
from scipy import stats

from alloop.errors import ConfigError, DamagedFileError
from alloop.evaluation.coco_ap import evaluate
from alloop.evaluation.detections_file import detections_to_bytes
from alloop.evaluation.matching import matched_detections
from alloop.ledger.store import open_ledger
from alloop.loop.round_files import detections_path
from alloop.randomness import rng
from alloop.results.compare import compare_runs
from alloop.results.group_intervals import group_intervals
from tests.support.resamples import detected_worse, random_data, repeated
from tests.support.runs import write_run

NAMES = list("abc")
TRUTH, FOUND = random_data(np.random.default_rng(5), 8, tuple(np.linspace(0.01, 0.99, 200)))
GROUPS = dict(zip(sorted(TRUTH), "aabbbcdd", strict=True))
KEPT_SHARE = {"random": (0.3, 0.6), "entropy": (0.5, 0.9)}  # of the detections, after each round


def write_measured(folder, strategy, seed, rounds, groups=None, truth=TRUTH, recorded=None):
    """Write a run that kept these detections after its rounds."""
    groups = GROUPS if groups is None else groups
    write_run(folder, strategy, seed, recorded or [evaluate(truth, found, NAMES).values["ap"] for found in rounds])
    with open_ledger(folder) as ledger:
        for k, found in enumerate(rounds):
            kept = matched_detections(truth, found, NAMES, groups)
            ledger.store(detections_path(k), detections_to_bytes(kept), k)
    return folder


def detections_of(strategy, seed):
    return [detected_worse(FOUND, share, seed) for share in KEPT_SHARE[strategy]]


@pytest.fixture
def study(tmp_path):
    for strategy in KEPT_SHARE:
        for seed in range(2):
            write_measured(tmp_path / f"{strategy}_seed{seed}", strategy, seed, detections_of(strategy, seed))
    return tmp_path


def slow_ap(found, copies):
    """AP of each resample with a true box, measured anew on images that are physically repeated."""
    data = [(repeated(TRUTH, times), repeated(found, times)) for times in copies]
    values = [evaluate(truth, detections, NAMES).values["ap"] for truth, detections in data]
    return np.array([value for value in values if value is not None])


def slow_interval(value, resampled, groups):
    error = np.sqrt(np.sum((resampled - resampled.mean()) ** 2) / len(resampled) * groups / (groups - 1))
    half = stats.t(groups - 1).isf(0.025) * error
    centre = value - (resampled.mean() - value)
    return centre - half, centre + half


def test_intervals_equal_those_of_images_that_are_repeated_and_measured_anew(study):
    over = group_intervals(compare_runs(study), 100)
    assert (over.groups, over.images, over.metric) == (4, 8, "ap")
    drawn = rng(0, "test groups").multinomial(4, [0.25] * 4, 100)
    copies = np.concatenate([np.ones((1, 4), dtype=int), drawn])[:, [0, 0, 1, 1, 1, 2, 3, 3]]
    values = {
        (strategy, seed, k): slow_ap(found, copies)
        for strategy in KEPT_SHARE
        for seed in range(2)
        for k, found in enumerate(detections_of(strategy, seed))
    }
    assert over.resamples == len(values["random", 0, 0]) - 1
    assert [(entry.strategy, entry.round, entry.seeds) for entry in over.rounds] == [
        (strategy, k, 2) for strategy in ("random", "entropy") for k in range(2)
    ]
    for entry in over.rounds:
        mean = (values[entry.strategy, 0, entry.round] + values[entry.strategy, 1, entry.round]) / 2
        low, high = slow_interval(mean[0], mean[1:], 4)
        assert entry.estimate.value == pytest.approx(mean[0], abs=1e-12)
        assert entry.estimate.interval == pytest.approx((max(low, 0), min(high, 1)), abs=1e-12)
    runs = [(strategy, seed) for strategy in ("random", "entropy") for seed in range(2)]
    for of_run, (strategy, seed) in zip(over.of_runs, runs, strict=True):
        assert [one.value for one in of_run] == pytest.approx([values[strategy, seed, k][0] for k in range(2)])
    # every run buys once and pays the same boxes here, so the gap is that after the last round
    gaps = [values["entropy", s, 1] - values["random", s, 1] for s in range(2)]
    mean = np.mean(gaps, axis=0)
    assert list(over.differences) == ["entropy"]
    assert over.differences["entropy"].value == pytest.approx(mean[0], abs=1e-12)
    assert over.differences["entropy"].interval == pytest.approx(slow_interval(mean[0], mean[1:], 4), abs=1e-12)


def test_the_difference_is_that_of_the_comparison_and_the_same_at_every_call(study):
    comparison = compare_runs(study)
    over = group_intervals(comparison, 100)
    assert over.differences["entropy"].value == pytest.approx(comparison.versus[0].difference, abs=1e-12)
    assert group_intervals(comparison, 100) == over
    assert group_intervals(compare_runs(study / "random_seed0"), 100).differences == {}


def test_resamples_without_a_true_box_are_left_out(tmp_path):
    truth = {i: (TRUTH[i] if GROUPS[i] == "b" else TRUTH[i].__class__(np.zeros((0, 4)), [], [], [])) for i in TRUTH}
    write_measured(tmp_path / "r", "random", 0, [FOUND], truth=truth)
    over = group_intervals(compare_runs(tmp_path / "r"), 400)
    assert 200 < over.resamples < 320, "about 1 - 0.75^4 of them hold group b"
    assert np.isfinite(over.rounds[0].estimate.interval).all()


def test_detections_that_give_another_ap_than_recorded_are_refused(tmp_path):
    write_measured(tmp_path / "r", "random", 0, [FOUND], recorded=[0.123])
    with pytest.raises(DamagedFileError, match=r"round_000\.npz: its detections give ap .* run\.db has 0\.123"):
        group_intervals(compare_runs(tmp_path / "r"), 100)


def test_other_test_images_or_groups_are_refused(tmp_path):
    write_measured(tmp_path / "r", "random", 0, [FOUND])
    others = {**GROUPS, min(GROUPS): "b"}
    write_measured(tmp_path / "e", "entropy", 0, [FOUND], groups=others)
    with pytest.raises(ConfigError, match="r and e were not measured on the same test images, groups and boxes"):
        group_intervals(compare_runs([tmp_path / "r", tmp_path / "e"]), 100)


def test_a_test_split_without_boxes_is_refused(tmp_path):
    truth = {i: TRUTH[i].__class__(np.zeros((0, 4)), [], [], []) for i in TRUTH}
    write_measured(tmp_path / "r", "random", 0, [FOUND], truth=truth, recorded=[None])
    with pytest.raises(ConfigError, match="the test images of r have no boxes"):
        group_intervals(compare_runs(tmp_path / "r"), 100)
