"""The panel of the pseudo-labels."""

import numpy as np
import pytest

from alloop.config import parse_config
from alloop.loop.engine import run_experiment
from alloop.report.page import write_report
from alloop.report.training_log import MOST_NAMES, apart, draw_training_log, precision_recall
from alloop.results.compare import compare_runs
from strategies import TABLE
from tests.support import small_tree
from tests.support.semi_supervised import ALL, semi


def test_the_report_shows_the_pseudo_labels(tmp_path):
    tree = small_tree(**semi(**ALL), **{"strategy.name": "random"})
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    (page, *_) = write_report(compare_runs([tmp_path / "run"]), tmp_path / "page.html", "teacher")
    text, last = page.read_text(), rounds[-1].training_log[-1]
    assert "Pseudo-labels of the teacher: run, round 2" in text
    cells = [
        f"{last['class_weights'][0]:.2f}",
        f"{last['thresholds'][0]:.2f}",
        *(str(last[k][0]) for k in ("pseudo", "right", "true")),
    ]
    assert "<td>0</td>" + "".join(f"<td>{cell}</td>" for cell in cells) in text
    assert "negative" not in text
    plain = run_experiment(parse_config(small_tree(**{"loop.rounds": 1})), tmp_path / "plain", TABLE)
    assert not plain[0].training_log
    (page, *_) = write_report(compare_runs([tmp_path / "plain"]), tmp_path / "plain.html", "plain")
    text = page.read_text()
    assert "Pseudo-labels of the teacher" not in text
    assert "1 run: entropy; seed 0; " in text
    assert "boxes as predicted" not in text, "nothing was bought, so nothing was predicted"


def test_precision_and_recall_of_each_epoch():
    log = [{"pseudo": [4, 0], "right": [3, 0], "true": [3, 3]}, {"pseudo": [0, 0], "right": [0, 0], "true": [2, 0]}]
    precision, recall = precision_recall(log)
    assert precision[0] == 0.75
    assert np.isnan(precision[1])
    assert recall == [0.5, 0.0]


def test_names_beside_lines_are_apart_and_near():
    crowded = apart(np.array([0.9] * 5), 0.1)
    assert crowded == pytest.approx([0.7, 0.8, 0.9, 1.0, 1.1]), "around the common value"
    assert apart(np.array([0.1, 0.5, 0.55, 2.0]), 0.1) == pytest.approx([0.1, 0.475, 0.575, 2.0]), "only who must moves"


def test_among_many_classes_the_outermost_are_named():
    names = [f"class {k}" for k in range(30)]
    log = [{"step": step, "thresholds": [0.5 + k / 1000 for k in range(30)]} for step in (1, 2)]
    (axes,) = draw_training_log(log, names).axes
    assert [text.get_text() for text in axes.texts] == [*names[: MOST_NAMES // 2], *names[-MOST_NAMES // 2 :]]
    heights, (low, high) = [text.xyann[1] for text in axes.texts], axes.get_ylim()
    assert np.diff(heights).min() > 0.07 * (high - low)
