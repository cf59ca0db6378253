"""The papers' tables agree with themselves, and are shown beside runs."""

import numpy as np
import pytest

from alloop.errors import ConfigError
from alloop.results.compare import compare_runs
from alloop.results.published import published_table, tables
from alloop.tables import plain
from tests.support.runs import stored_study


def test_all_is_what_majority_and_minority_make():
    """80 classes, 60 of them frequent: every printed row obeys, but for one that is marked as a possible misprint."""
    checked, odd = 0, []
    for name, table in tables().items():
        if not name.startswith("cissod"):
            continue
        for row, cells in _rows(table["rows"]):
            if {"all", "maj", "min"} <= cells.keys() and None not in (cells["all"], cells["maj"], cells["min"]):
                checked += 1
                if abs((60 * cells["maj"] + 20 * cells["min"]) / 80 - cells["all"]) > 0.1:
                    odd.append((name, row))
    assert checked > 5
    assert odd == [("cissod.table4", "Unbiased Teacher")]


def _rows(tree, path=""):
    if isinstance(tree, dict) and any(isinstance(value, dict) for value in tree.values()):
        for key, value in tree.items():
            yield from _rows(value, f"{path}{key} ")
    elif isinstance(tree, dict):
        yield path.strip(), tree


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


def test_a_table_of_accuracies_lies_beside_ones_own(tmp_path):
    folder = stored_study(tmp_path, {"influence": 0.05})
    text = plain(*published_table("isal.table1", compare_runs([folder], "ap")))
    rows = tables()["isal.table1"]["rows"]
    images = 1000 * np.arange(1, 11)
    expected = 1 - np.interp(rows["Random"][-1], rows["ISAL"], images) / images[-1]
    line = next(line for line in text.splitlines() if line.strip().startswith("ISAL"))
    assert f"{expected:.0%} / " in line
    assert f"{1e4 * rows['ISAL'][-1] / 100 / 10_000:.4f}" in text


@pytest.mark.parametrize("name", sorted(tables()))
def test_every_bundled_table_can_be_shown(tmp_path_factory, name):
    folder = stored_study(tmp_path_factory.mktemp("study"), {"influence": 0.05})
    lines = plain(*published_table(name, compare_runs([folder], "ap"))).splitlines()
    assert lines[0].startswith(name)
    assert len(lines) > 1
    assert not any("None" in line or "{" in line for line in lines)
