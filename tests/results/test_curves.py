"""Readings of curves by hand, and on the published tables of ISAL."""

import json
from pathlib import Path

import numpy as np
import pytest

from alloop.results.curves import ap_at, boxes_to_reach, efficiency, saving


def test_boxes_to_reach_and_saving_by_hand():
    boxes, ap = np.array([100.0, 200.0, 300.0]), np.array([0.2, 0.4, 0.5])
    assert boxes_to_reach(boxes, ap, 0.3) == pytest.approx(150)
    assert boxes_to_reach(boxes, ap, 0.1) == 100
    assert boxes_to_reach(boxes, ap, 0.6) is None
    assert saving(boxes, ap + 0.1, boxes, ap, target=0.4) == pytest.approx(1 - 150 / 200)


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
