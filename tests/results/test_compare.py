"""Comparison by hand-computed fixtures."""

from dataclasses import replace

import numpy as np
import pytest

from alloop.budget.charges import RoundCharges
from alloop.budget.prices import COST_MODELS, IMAGES
from alloop.errors import ConfigError
from alloop.ledger.facts import RunFacts
from alloop.report.numbers import to_csv, to_json
from alloop.report.text import sentence, to_table
from alloop.results.compare import against_random, compare_runs, compared, flips, penalty_matrix
from alloop.results.pairs import CurvesBySeed
from alloop.results.statistics import detectable, holm, t_interval
from tests.support.runs import run, stored_study, write_run


def versus(runs, name, test="t"):
    """Compare one strategy with random, without regard to the others."""
    return against_random(name, CurvesBySeed.of_runs(runs, "ap").pairs(name, "random"), "ap", test)


def test_intervals_are_students_and_verdicts_follow_them():
    interval, p = t_interval([0.1, 0.2, 0.3])
    half = 4.302653 * 0.1 / np.sqrt(3)  # t(0.975, 2) s / sqrt(n)
    assert interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)
    assert p == pytest.approx(0.0742, abs=1e-3)
    assert t_interval([0.1]) == (None, None)
    clear = [run("random", [0, 100], [0.1, 0.2], s) for s in range(3)]
    clear += [run("a", [0, 100], [0.2, 0.3 + 0.001 * s], s) for s in range(3)]
    clear += [run("b", [0, 100], [0.0, 0.1 + 0.1 * s], s) for s in range(3)]
    clear += [run("c", [0, 100], [0.0, 0.1 + 0.001 * s], s) for s in range(3)]
    verdicts = {name: versus(clear, name).verdict for name in "abc"}
    assert verdicts == {"a": "better", "b": "inconclusive", "c": "worse"}
    assert versus(clear[:1] + clear[3:4], "a").verdict == "inconclusive"
    matrix = penalty_matrix(CurvesBySeed.of_runs([one for one in clear if one.strategy != "b"], "ap"))
    assert matrix == {
        "random": {"random": 0, "a": 0, "c": 1},
        "a": {"random": 1, "a": 0, "c": 1},
        "c": {"random": 0, "a": 0, "c": 0},
    }


def test_who_beats_whom_is_decided_by_the_chosen_test_of_the_pair():
    """With three seeds a bootstrap interval excludes zero if the signs agree, and no test of signs reaches 5 %."""
    runs = [run("random", [0, 100], [0.1, 0.2], s) for s in range(3)]
    runs += [run("a", [0, 100], [0.1, 0.3 + 0.001 * s], s) for s in range(3)]
    curves = CurvesBySeed.of_runs(runs, "ap")
    assert penalty_matrix(curves, "t")["a"]["random"] == 1
    assert penalty_matrix(curves, "permutation")["a"]["random"] == 0
    assert penalty_matrix(curves, "wilcoxon")["a"]["random"] == 0


def test_identical_strategies_are_rarely_called_different():
    chance, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        runs = [run(name, [0, 100], chance.normal(0.3, 0.05, 2), seed) for name in ("random", "a") for seed in range(5)]
        wrong += versus(runs, "a").verdict != "inconclusive"
    assert wrong / 400 <= 0.075  # 5 % and two standard errors


def test_many_strategies_alike_random_are_rarely_called_anything(tmp_path):
    """Ten strategies that do what random does: with Holm, a false verdict in at most about one study of twenty."""
    random, studies, wrong = np.random.default_rng(3), 120, 0
    for _ in range(studies):
        base = random.normal(0.5, 0.02, 5)
        p_values = [t_interval((random.normal(0.5, 0.02, 5) - base).tolist())[1] for _ in range(10)]
        wrong += min(p for p in holm(p_values) if p is not None) < 0.05
    assert wrong / studies <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


def test_a_verdict_has_to_hold_for_all_comparisons(tmp_path):
    folder = stored_study(tmp_path, {"near": 0.012, **{f"alike{k}": 0.0 for k in range(6)}})
    together = compare_runs([folder], "ap")
    fair = [r for r in together.runs if not r.full_label]
    by_itself = versus(fair, "near")
    by_name = {versus.strategy: versus for versus in together.versus}
    assert by_itself.verdict == "better"
    assert by_name["near"].verdict == "inconclusive"
    assert by_name["near"].p_holm > 0.05 > by_name["near"].p_value
    assert "a verdict needs a difference of about" in sentence(by_name["near"])
    gaps = CurvesBySeed.of_runs(fair, "ap").pairs("near", "random").gaps
    assert by_name["near"].detectable == pytest.approx(detectable(gaps, 7)), "of the verdict: seven strategies"
    tree = to_json(together)
    assert tree["comparisons"][0].keys() >= {"difference", "interval", "p_value", "verdict", "saving", "p_holm"}
    with_permutation = compare_runs([folder], "ap", "permutation")
    assert with_permutation.test == "permutation"
    assert all(v.p_value >= 2 / 2**v.seeds for v in with_permutation.versus)


def test_areas_and_points_by_hand(tmp_path):
    runs = [run("random", [100, 200, 400], [0.2, 0.4, 0.6]), run("a", [100, 400], [0.2, 0.7])]
    means = CurvesBySeed.of_runs(runs, "ap").areas()  # from 400, a's first purchase, to 400
    assert means == pytest.approx({"random": 0.6, "a": 0.7})
    apart = [run("a", [1, 2], [0.0, 1.0]), run("b", [3, 4], [0.0, 1.0])]
    assert CurvesBySeed.of_runs(apart, "ap").areas() == {}
    folder = stored_study(tmp_path, {"near": 0.01})
    text = to_table(compare_runs([folder], "ap"), at_paid=15)
    assert "Mean AP over the boxes" in text
    assert "at 15 boxes" in text
    assert "outside its curve" in to_table(compare_runs([folder], "ap"), at_paid=1e9)
    with pytest.raises(ConfigError):
        compare_runs([tmp_path / "nothing"])


def priced(strategy, images, boxes, ap, seed):
    """Return a run whose rounds bought these numbers of images and boxes."""
    charged = tuple(RoundCharges(k, i, b, 0, 0.0) for k, (i, b) in enumerate(zip(images, boxes, strict=True)))
    return replace(run(strategy, np.cumsum(boxes).tolist(), ap, seed), charged=charged)


def test_a_verdict_that_depends_on_counting_is_shown():
    """Learning loss buys twice the boxes: it wins by images and loses by boxes."""
    runs = []
    for seed in range(4):
        noise = 0.001 * np.random.default_rng(seed).normal(size=2)
        runs += [priced("random", [10, 10, 10], [20, 20, 20], [0.2, 0.3, 0.4], seed)]
        runs += [priced("rich", [10, 10, 10], [20, 60, 60], [0.2, *(np.array([0.36, 0.46]) + noise)], seed)]
    by_boxes, by_images = compared(runs, "ap"), compared(runs, "ap", cost=IMAGES)
    ((boxes, images),) = flips(by_boxes, by_images)
    assert (boxes.verdict, images.verdict) == ("worse", "better")
    table = to_table(by_boxes)
    assert "Counted in images, rich would be" in table
    assert "at equal images" in sentence(images, IMAGES)
    assert "20% less cost (10% to 30%)" in sentence(
        replace(images, saving=0.2, saving_interval=(0.1, 0.3)), COST_MODELS["draw"]
    )
    assert "needs 25% more boxes (10% to 40%)" in sentence(replace(boxes, saving=-0.25, saving_interval=(-0.4, -0.1)))
    assert to_csv(compared(runs, "ap", cost=COST_MODELS["draw"])).splitlines()[0].endswith(",cost")
    assert to_json(by_images)["cost"]["name"] == "images"


def repeated(strategy, seed, ap, replicate):
    return replace(run(strategy, [100, 200], ap, seed), facts=RunFacts(config="{}", replicate=replicate))


def test_a_difference_within_replicate_noise_is_inconclusive():
    runs = [run("random", [100, 200], [0.30, 0.40], s) for s in range(4)]
    runs += [run("a", [100, 200], [0.31, 0.41 + 0.0001 * s], s) for s in range(4)]
    alone = compared(runs, "ap")
    assert alone.replicate_noise is None
    assert alone.versus[0].verdict == "better"
    quiet = compared([*runs, repeated("random", 0, [0.30, 0.40], 1)], "ap")
    assert quiet.replicate_noise == 0
    assert quiet.versus == alone.versus, "a repetition is no seed"
    loud = compared([*runs, repeated("random", 0, [0.28, 0.38], 1)], "ap")
    assert loud.replicate_noise == pytest.approx(0.02)
    assert loud.versus[0].verdict == "inconclusive"
    assert "up to 0.0200 AP" in to_table(loud)
    assert to_json(loud)["replay_noise"] == pytest.approx(0.02)
    assert len(to_json(loud)["runs"]) == 8


def test_metrics_of_voc_are_compared_where_they_were_measured(tmp_path):
    for name, ap in (("random", 0.2), ("entropy", 0.4)):
        for seed in range(2):
            write_run(tmp_path / f"{name}{seed}", name, seed, [0.1, ap], metrics=["voc07_ap50"])
    comparison = compare_runs(tmp_path, "voc07_ap50")
    assert comparison.versus[0].difference == pytest.approx(0.2)
    rounds = to_json(comparison)["runs"][0]["rounds"]
    assert [one["voc07_ap50"] for one in rounds] == [0.1, 0.2]
    heading = to_csv(comparison).splitlines()[0]
    assert heading.split(",")[-4:] == ["ap", "ap50", "ap75", "voc07_ap50"]
    assert "VOC07 AP50" in to_table(comparison)
    assert "voc07_ap50" not in to_json(compare_runs(tmp_path, "ap"))["runs"][0]["rounds"][0]
    write_run(tmp_path / "entropy2", "entropy", 2, [0.1, 0.4])
    with pytest.raises(ConfigError, match=r"entropy2: round 0 has no voc07_ap50.* compare by ap, ap50, ap75"):
        compare_runs(tmp_path, "voc07_ap50")
