"""The numbers of a comparison as JSON."""

import json

from alloop.report.numbers import to_json
from alloop.results.compare import (
    compare_runs,
)
from tests.support.runs import write_study


def test_json_has_the_fixed_form(tmp_path):
    study = write_study(tmp_path)
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
