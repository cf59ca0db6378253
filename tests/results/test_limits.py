"""What keeps a run or a study from an answer."""

from alloop.ledger.store import RoundRecord
from alloop.results.limits import run_limits, study_limits
from tests.support import small_tree
from tests.support.commands import call
from tests.support.runs import run


def rounds(*values, boxes=(100, 200, 300)):
    return [
        RoundRecord(number, 10 * number, n, {"ap": value}, {}, {})
        for number, (value, n) in enumerate(zip(values, boxes, strict=False))
    ]


def test_a_detector_that_finds_nothing_is_told():
    (line,) = run_limits(rounds(0.0, 0.0), [])
    assert line.startswith("AP is 0 in every round")
    assert run_limits(rounds(0.0, 0.1), []) == run_limits([], []) == run_limits(rounds(None), []) == []


def test_ap_that_falls_while_boxes_rise_is_told():
    (line,) = run_limits(rounds(0.30, 0.35, 0.32), [])
    assert line.startswith("AP fell from 0.350 to 0.320 while boxes rose from 200 to 300: ")
    assert run_limits(rounds(0.30, 0.35, 0.335), []) == [], "trainings differ by as much"
    assert run_limits(rounds(0.30, 0.35, 0.32, boxes=(100, 300, 300)), []) == []


def test_utilities_that_most_images_share_are_told_for_the_last_such_round():
    first, second = [(0, 0.0)] * 6 + [(0, 1.5)], [(1, 2.0), (1, 1.0), (1, 1.0), (1, 1.0)]
    (line,) = run_limits([], [*first, *second])
    assert line.startswith("3 of the 4 images chosen after round 1 have the utility 1: ")
    assert run_limits([], [*first, (1, 1.0), (1, 2.0)])[0].startswith("6 of the 7 images chosen after round 0")
    assert run_limits([], [(0, 1.0), (0, 1.0), (0, 2.0), (0, 3.0)]) == [], "half is not most"
    assert run_limits([], [(0, 1.0)]) == [], "one image has no other to share with"


def test_a_study_whose_labels_hardly_matter_is_told():
    full = [run("full_label", [100] * 9 + [500], [0.1] * 9 + [0.405])]  # 100 images
    near, far = run("random", [50, 100], [0.2, 0.4]), run("random", [50, 100], [0.2, 0.3])
    (line,) = study_limits([near, *full], "ap50")
    assert line.startswith("With all labels it is 0.405, and random's last round has 0.400 with 20% of the images: ")
    assert study_limits([far, *full], "ap50") == []
    assert study_limits([near], "ap50") == study_limits(full, "ap50") == []
    assert study_limits([near, run("full_label", [90, 99], [0.2, 0.405])], "ap50") == [], "20 of 20 images are all"
    assert study_limits([near, *full], "ap75") == [], "nobody measured it"


def test_status_tells_what_limits_a_run(tmp_path):
    import yaml

    tree = small_tree(**{"loop.rounds": 2, "training.iterations": 1, "detector.weights": "none"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    call("run", tmp_path / "c.yaml", "--out", tmp_path / "run", "--quiet")
    assert "limit    AP is 0 in every round" in call("status", tmp_path / "run").output
