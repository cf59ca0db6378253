"""The numbers of a comparison as JSON."""

import json

import pytest

from alloop.ledger.store import open_ledger
from alloop.report.numbers import mean_rows, to_json
from alloop.report.page import write_report
from alloop.results.compare import (
    compare_runs,
)
from tests.support.runs import write_study


def test_json_has_the_fixed_form(tmp_path):
    study = write_study(tmp_path)
    tree = to_json(compare_runs([study]))
    written = json.loads(json.dumps(tree, allow_nan=False))
    assert written.keys() == tree.keys()
    assert written["comparisons"][0]["interval"] == list(tree["comparisons"][0]["interval"])
    assert written["ranges"] == {str(seed): list(within) for seed, within in compare_runs([study]).ranges.items()}
    assert len(tree["runs"]) == 4
    first = tree["runs"][0]
    assert (first["strategy"], first["random_seed"], first["label_using"]) == ("random", 0, False)
    assert list(first["rounds"][0]) == ["round", "images", "boxes", "ap", "ap50", "ap75", "ap_at_100"]
    assert first["rounds"][0]["ap75"] is None
    (versus,) = tree["comparisons"]
    assert {"strategy", "difference", "interval", "p_value", "verdict", "saving", "saving_interval"} <= versus.keys()
    assert tree["penalty_matrix"]["entropy"].keys() == {"random", "entropy"}


def test_cocos_figure_at_100_stands_beside_ap_where_it_differs(tmp_path):
    """In JSON and in the page; a seed without it counts with its AP, which is the same there."""
    study = write_study(tmp_path)
    with open_ledger(study / "entropy_seed0") as ledger:
        values = {"ap": 0.4, "ap50": 0.4, "ap75": None, "ap_at_100": 0.2}
        ledger.database.write(
            "UPDATE round SET metrics = ? WHERE round = 1", json.dumps({"values": values, "per_class": {}})
        )
    comparison = compare_runs([study])
    figures = [record["ap_at_100"] for run in to_json(comparison)["runs"] for record in run["rounds"]]
    assert sorted(figures, key=str) == [0.2, *[None] * 7]
    rows = {(row["strategy"], row["round"]): row.get("ap_at_100") for row in mean_rows(comparison.runs)}
    assert rows["entropy", 1] == pytest.approx(0.3)
    assert rows["random", 1] is None
    write_report(comparison, tmp_path / "page.html", "title")
    assert "AP at 100" in (tmp_path / "page.html").read_text()
