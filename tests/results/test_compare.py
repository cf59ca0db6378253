"""Comparison by hand-computed fixtures, and the page that shows it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from alloop.errors import ConfigError
from alloop.report.numbers import to_csv, to_json
from alloop.report.page import write_report
from alloop.report.text import to_table
from alloop.results.compare import (
    against_random,
    compare_runs,
    gap,
    penalty_matrix,
    saving_against_random,
)
from alloop.results.curves import ap_at, boxes_to_reach, efficiency, saving
from alloop.results.statistics import t_interval
from tests.support.runs import run, write_run


def test_the_gap_is_the_mean_over_the_common_range():
    a = run("a", [100, 200], [0.2, 0.4])
    assert gap(a, run("b", [100, 200], [0.1, 0.3]), "ap") == pytest.approx(0.1)
    # b covers 150..250; there a has 0.3..0.4 up to 200 and b rises from 0.3 to 0.35: mean 0.35 - 0.325
    assert gap(a, run("b", [150, 250], [0.3, 0.4]), "ap") == pytest.approx(0.025)
    assert gap(a, run("b", [300, 400], [0.3, 0.4]), "ap") is None
    assert gap(a, run("b", [], []), "ap") is None


def test_boxes_to_reach_and_saving_by_hand():
    boxes, ap = np.array([100.0, 200.0, 300.0]), np.array([0.2, 0.4, 0.5])
    assert boxes_to_reach(boxes, ap, 0.3) == pytest.approx(150)
    assert boxes_to_reach(boxes, ap, 0.1) == 100
    assert boxes_to_reach(boxes, ap, 0.6) is None
    runs = [run("random", [100, 200], [0.2, 0.4]), run("a", [100, 200], [0.3, 0.5])]
    assert saving_against_random(runs, "a", "ap") == pytest.approx(1 - 150 / 200)


def test_intervals_are_students_and_verdicts_follow_them():
    interval, p = t_interval([0.1, 0.2, 0.3])
    half = 4.302653 * 0.1 / np.sqrt(3)  # t(0.975, 2) s / sqrt(n)
    assert interval == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)
    assert p == pytest.approx(0.0742, abs=1e-3)
    assert t_interval([0.1]) == (None, None)
    clear = [run("random", [0, 100], [0.1, 0.2], s) for s in range(3)]
    clear += [run("a", [0, 100], [0.2 + 0.001 * s, 0.3], s) for s in range(3)]
    clear += [run("b", [0, 100], [0.0 + 0.2 * s, 0.1], s) for s in range(3)]
    clear += [run("c", [0, 100], [0.0, 0.1 + 0.001 * s], s) for s in range(3)]
    verdicts = {name: against_random(clear, name, "ap").verdict for name in "abc"}
    assert verdicts == {"a": "better", "b": "inconclusive", "c": "worse"}
    assert against_random(clear[:1] + clear[3:4], "a", "ap").verdict == "inconclusive"
    matrix = penalty_matrix(clear, ["random", "a", "c"], "ap")
    assert matrix == {
        "random": {"random": 0, "a": 0, "c": 1},
        "a": {"random": 1, "a": 0, "c": 1},
        "c": {"random": 0, "a": 0, "c": 0},
    }


def test_identical_strategies_are_rarely_called_different():
    chance, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        runs = [run(name, [0, 100], chance.normal(0.3, 0.05, 2), seed) for name in ("random", "a") for seed in range(5)]
        wrong += against_random(runs, "a", "ap").verdict != "inconclusive"
    assert wrong / 400 <= 0.075  # 5 % and two standard errors


@pytest.fixture
def study(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"random_seed{seed}", "random", seed, [0.1, 0.2 + 0.01 * seed])
        write_run(tmp_path / f"entropy_seed{seed}", "entropy", seed, [0.1, 0.4])
    return tmp_path


def test_json_has_the_fixed_form(study):
    tree = to_json(compare_runs([study]))
    assert json.loads(json.dumps(tree, allow_nan=False)) == tree | {
        "comparisons": [c | {"interval": list(c["interval"])} for c in tree["comparisons"]]
    }
    assert len(tree["runs"]) == 4
    first = tree["runs"][0]
    assert (first["strategy"], first["random_seed"], first["label_using"]) == ("random", 0, False)
    assert list(first["rounds"][0]) == ["round", "images", "boxes", "ap", "ap50", "ap75"]
    assert first["rounds"][0]["ap75"] is None
    (versus,) = tree["comparisons"]
    assert {"strategy", "difference", "interval", "p_value", "verdict", "saving"} <= versus.keys()
    assert tree["penalty_matrix"]["entropy"].keys() == {"random", "entropy"}


def test_table_and_csv_say_the_same(study):
    comparison = compare_runs([study])
    table, lines = to_table(comparison, target_ap=0.3), to_csv(comparison).splitlines()
    assert "entropy against random at equal boxes" in table
    assert "entropy: ap 0.3 at" in table
    assert "random: ap 0.3 not reached" in table
    assert "reference split is the test split" in table
    assert lines[0] == "strategy,random_seed,label_using,round,images,boxes,ap,ap50,ap75"
    assert len(lines) == 9
    assert lines[1].endswith(",0.100000,0.100000,")


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"lr": 0.2}, r"training\.lr"), ({"data": "other"}, "data differs"), ({"seed_set": (1, 3)}, "seed sets differ")],
)
def test_unlike_runs_are_not_compared(study, changes, words):
    write_run(study / "k_center_seed0", "k_center", 0, [0.1, 0.2], **changes)
    with pytest.raises(ConfigError, match=words):
        compare_runs([study])


def test_settings_of_one_strategy_are_told_apart_and_twins_refused(study):
    write_run(study / "other_seed0", "entropy", 0, [0.1, 0.3], aggregation="sum")
    names = {run.strategy for run in compare_runs([study]).runs}
    assert names == {"random", "entropy (defaults)", "entropy (aggregation=sum)"}
    with pytest.raises(ConfigError, match="both are random under seed 0"):
        compare_runs([study / "random_seed0", study / "random_seed0"])


def test_the_report_is_offline_escaped_and_equal_to_its_csv(tmp_path):
    evil = '</script><img src=x onerror="alert(1)">$x^{'
    write_run(tmp_path / "s" / "random_seed0", "random", 0, [0.1, 0.25], name=evil)
    write_run(tmp_path / "s" / "evil_seed0", evil, 0, [0.1, 0.5], name=evil)
    files = write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", evil)
    assert [f.name for f in files] == ["r.html", "r.csv", "r.json", "r.png"]
    page = files[0].read_text()
    assert "<script" not in page
    assert not re.search(
        r'<img(?! src="data:image/jpeg;base64,[A-Za-z0-9+/=]+" alt="image \d+ with \d+ box(es)?">)', page
    )
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?https?:""", page.replace("http://www.w3.org", ""))
    assert "default-src 'none'" in page
    assert "0.250" in page
    assert "0.250000" in files[1].read_text()
    assert len(page) < 5_000_000
    assert page == write_report(compare_runs([tmp_path / "s"]), tmp_path / "r.html", evil)[0].read_text()


# ISAL's own tables


def isal_curve(table, method):
    rows = json.loads((Path(__file__).parents[1] / "golden" / "isal_tables.json").read_text())["tables"][table][method]
    return np.array(rows["boxes"]), np.array(rows["ap"])


@pytest.mark.parametrize(
    ("table", "other", "target", "expected"),
    [
        ("voc_fcos", "Coreset", 0.42, 0.133),
        ("coco_fcos", "Random", 0.21133333, 0.156),
        ("coco_faster_rcnn", "Random", 0.21766667, 0.108),
    ],
)
def test_the_savings_isal_reports_follow_from_its_tables(table, other, target, expected):
    ours, theirs = isal_curve(table, "ISAL"), isal_curve(table, other)
    assert saving(*ours, *theirs, target=target) == pytest.approx(expected, abs=0.0005)
    methods = json.loads((Path(__file__).parents[1] / "golden" / "isal_tables.json").read_text())["tables"][table]
    others = [saving(*ours, *isal_curve(table, name), target=target) for name in methods if name != "ISAL"]
    assert min(value for value in others if value is not None) == pytest.approx(expected, abs=0.0005)


def test_the_efficiencies_isal_prints_follow_from_its_tables():
    tables = json.loads((Path(__file__).parents[1] / "golden" / "isal_tables.json").read_text())["tables"]
    cells = 0
    for methods in tables.values():
        for rows in methods.values():
            computed = [efficiency(b, a) for b, a in zip(rows["boxes"], rows["ap"], strict=True)]
            assert computed == pytest.approx(rows["efficiency"], rel=2e-4)
            cells += len(computed)
    assert cells == 174


def test_a_curve_is_read_between_its_points_and_nowhere_else():
    boxes, ap = np.array([100.0, 200.0, 400.0]), np.array([0.2, 0.4, 0.3])
    assert ap_at(boxes, ap, 150) == pytest.approx(0.3)
    assert ap_at(boxes, ap, 400) == pytest.approx(0.3)
    assert ap_at(boxes, ap, 99) is None
    assert ap_at(boxes, ap, 401) is None
    assert saving(boxes, ap, boxes, ap, target=0.5) is None
    assert saving(boxes, ap, 2 * boxes, ap, target=0.3) == pytest.approx(0.5)
