"""Intervals and tests by hand, and how often they are wrong where the truth is known."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.errors import ConfigError
from alloop.report.numbers import to_json
from alloop.report.text import sentence, to_table
from alloop.results.compare import against_random, areas, compare_runs
from alloop.results.published import published_table, tables
from alloop.results.statistics import (
    bootstrap_interval,
    detectable,
    holm,
    sign_flip_p,
    significance,
    t_interval,
    wilcoxon_p,
)
from alloop.tables import plain
from tests.support.runs import run, write_run


def stored_study(folder, differences):
    """Five seeds of random and of strategies that differ from it by so much on the mean, with a spread of 0.007."""
    spread = np.array([-1.2, -0.5, 0.1, 0.4, 1.2])
    spread = (spread - spread.mean()) / spread.std(ddof=1)
    for seed in range(5):
        write_run(folder / f"random_seed{seed}", "random", seed, [0.3 + 0.01 * seed, 0.4])
        for number, (name, difference) in enumerate(differences.items()):
            shift = difference + 0.007 * np.roll(spread, number)[seed]
            write_run(folder / f"{name}_seed{seed}", name, seed, [0.3 + 0.01 * seed + shift, 0.4 + shift])
    return folder


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    assert holm([0.2]) == [0.2]


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_lowers_nothing(p_values):
    found = holm(p_values)
    assert all(new >= old for new, old in zip(found, p_values, strict=True))
    assert all(new <= 1 for new in found)
    for a, b in itertools.combinations(range(len(found)), 2):
        assert p_values[a] >= p_values[b] or found[a] <= found[b]


def test_signs_are_flipped_in_every_way():
    values = [0.3, 0.1, 0.2, 0.4]
    means = [np.mean(np.array(signs) * values) for signs in itertools.product([1, -1], repeat=4)]
    expected = np.mean(np.abs(means) >= np.mean(values) - 1e-12)
    assert sign_flip_p(values) == pytest.approx(expected) == pytest.approx(2 / 16)
    assert sign_flip_p([0.1] * 6) == pytest.approx(2 / 64)
    assert sign_flip_p([0.1, -0.1]) == 1
    assert sign_flip_p(list(np.linspace(0.1, 1, 20))) < 1e-3
    assert sign_flip_p([0.1]) is None


def test_ranks_and_bootstrap():
    assert wilcoxon_p([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) == pytest.approx(2 / 64)
    assert wilcoxon_p([0.0, 0.0]) == 1
    assert wilcoxon_p([0.1]) is bootstrap_interval([0.1]) is None
    values = np.random.default_rng(1).normal(0.5, 1, 200).tolist()
    low, high = bootstrap_interval(values)
    t_low, t_high = t_interval(values)[0]
    assert (low, high) == pytest.approx((t_low, t_high), abs=0.02)
    assert bootstrap_interval(values) == (low, high)


def test_what_could_have_been_found_is_found_so_often():
    random = np.random.default_rng(0)
    sample = random.normal(0, 0.02, 5)
    spread, smallest = float(np.std(sample, ddof=1)), detectable(sample)
    hits = sum(t_interval(random.normal(smallest, spread, 5))[1] < 0.05 for _ in range(4000))
    assert hits / 4000 == pytest.approx(0.8, abs=0.03)
    assert detectable([0.1]) is None
    assert detectable([0.1, 0.1]) == 0
    assert detectable(np.tile(sample, 4)) < smallest


@pytest.mark.parametrize("test", ["t", "permutation"])
def test_identical_strategies_are_rarely_called_different(test):
    random = np.random.default_rng(2)
    wrong = sum((significance(random.normal(0, 1, 7).tolist(), test)[1] or 1) < 0.05 for _ in range(400))
    assert wrong / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


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
    by_itself = against_random(fair, "near", "ap")
    found = {versus.strategy: versus for versus in together.versus}
    assert by_itself.verdict == "better"
    assert found["near"].verdict == "inconclusive"
    assert found["near"].p_holm > 0.05 > found["near"].p_value
    assert "detect a difference of" in sentence(found["near"])
    tree = to_json(together)
    assert tree["comparisons"][0].keys() >= {"difference", "interval", "p_value", "verdict", "saving", "p_holm"}
    with_permutation = compare_runs([folder], "ap", "permutation")
    assert with_permutation.test == "permutation"
    assert all(v.p_value >= 2 / 2**v.seeds for v in with_permutation.versus)


def test_areas_and_points_by_hand(tmp_path):
    runs = [run("random", [100, 200], [0.2, 0.4]), run("a", [150, 250], [0.4, 0.6])]
    found = areas(runs, ["random", "a"], "ap")
    assert found == pytest.approx({"random": 0.35, "a": 0.45})
    assert areas([run("a", [1, 2], [0.0, 1.0]), run("b", [3, 4], [0.0, 1.0])], ["a", "b"], "ap") == {}
    folder = stored_study(tmp_path, {"near": 0.01})
    text = to_table(compare_runs([folder], "ap"), at_paid=15)
    assert "Mean AP over the boxes" in text
    assert "at 15 boxes" in text
    assert "outside its curve" in to_table(compare_runs([folder], "ap"), at_paid=1e9)
    with pytest.raises(ConfigError):
        compare_runs([tmp_path / "nothing"])


def test_a_published_table_lies_beside_ones_own(tmp_path):
    folder = stored_study(tmp_path, {"influence": 0.05, "k_center": 0.01})
    text = plain(*published_table("isal.table4", compare_runs([folder], "ap")))
    # saving of ISAL at random's last mAP, from the printed boxes: 13.3 % is what the paper says of the last step
    rows = tables()["isal.table4"]["rows"]
    boxes, figure = (np.array(rows["ISAL"][key]) for key in ("bbox_num", "mAP"))
    last = rows["Random"]["mAP"][-1]
    expected = 1 - np.interp(last, figure, boxes) / rows["Random"]["bbox_num"][-1]
    line = next(line for line in text.splitlines() if line.strip().startswith("ISAL"))
    assert f"{expected:.0%} / " in line
    assert line.rstrip().endswith("%"), "our own influence run is beside it"
    assert "Learning loss" in text
    with pytest.raises(ConfigError, match=r"did you mean 'isal\.table4'"):
        published_table("isal.table44", compare_runs([folder], "ap"))


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_bundled_table_can_be_shown(tmp_path_factory, name):
    folder = stored_study(tmp_path_factory.mktemp("study"), {"influence": 0.05})
    lines = plain(*published_table(name, compare_runs([folder], "ap"))).splitlines()
    assert lines[0].startswith(name)
    assert len(lines) > 1
    assert not any("None" in line or "{" in line for line in lines)
