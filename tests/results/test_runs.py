"""Runs as they are read, priced and admitted to a comparison."""

import pytest

from alloop.budget.charges import RoundCharges
from alloop.budget.prices import COST_MODELS, CostModel, PriceList, cost_model
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.results.compare import (
    compare_runs,
)
from alloop.results.runs import counted_detections, find_runs
from tests.support.runs import write_run, write_study


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"lr": 0.2}, r"training\.lr"), ({"data": "other"}, "data differs"), ({"seed_set": (1, 3)}, "seed sets differ")],
)
def test_unlike_runs_are_not_compared(tmp_path, changes, words):
    study = write_study(tmp_path)
    write_run(study / "k_center_seed0", "k_center", 0, [0.1, 0.2], **changes)
    with pytest.raises(ConfigError, match=words):
        compare_runs([study])


@pytest.mark.parametrize(
    ("detector", "evaluation", "counted"),
    [
        ({"max_detections": 300}, None, 100),  # a config of an older version
        ({"max_detections": 20}, None, 20),
        ({}, None, 100),
        ({"max_detections": 300}, {"max_detections": None}, 300),
        ({"max_detections": 300}, {"max_detections": 100}, 100),
        ({"max_detections": 20}, {"max_detections": None}, 20),
        ({}, {"max_detections": None}, None),
    ],
)
def test_runs_are_compared_by_the_detections_that_can_count(detector, evaluation, counted):
    """A config of today and one of an older version are alike where the detector gives 100 or fewer."""
    config = {"detector": detector, **({} if evaluation is None else {"evaluation": evaluation})}
    assert counted_detections(config) == counted


def test_settings_of_one_strategy_are_told_apart_and_twins_refused(tmp_path):
    study = write_study(tmp_path)
    write_run(study / "other_seed0", "entropy", 0, [0.1, 0.3], aggregation="sum")
    names = {run.strategy for run in compare_runs([study]).runs}
    assert names == {"random", "entropy (defaults)", "entropy (aggregation=sum)"}
    with pytest.raises(ConfigError, match="both are random under seed 0"):
        compare_runs([study / "random_seed0", study / "random_seed0"])


def test_stored_charges_are_priced_again_by_hand(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2, 0.3])
    with read_ledger(tmp_path / "r") as ledger:
        counts = [[c.boxes for c in ledger.charges() if c.round <= k] for k in range(3)]
    assert any(0 in boxes for boxes in counts), "an image without a box must be among them"
    paid = {
        "boxes": [sum(boxes) for boxes in counts],
        "images": [len(boxes) for boxes in counts],
        "draw": [35 * sum(boxes) for boxes in counts],
        "extreme_click": [7 * sum(boxes) for boxes in counts],
        "image=0.5,box=2,empty=3,unit=EUR": [0.5 * len(b) + 2 * sum(b) + 3 * b.count(0) for b in counts],
    }
    for text, expected in paid.items():
        (priced,) = find_runs([tmp_path / "r"], cost_model(text))
        assert list(priced.paid) == pytest.approx(expected), text
        assert priced.curve("ap")[0].tolist() == pytest.approx(expected)


def test_seconds_need_to_have_been_recorded(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2])
    with pytest.raises(ConfigError, match="no recorded seconds"):
        compare_runs([tmp_path / "r"], cost=COST_MODELS["seconds"])
    assert CostModel("s", prices=PriceList(second=2.0, box=0.0)).cost(RoundCharges(0, 3, 4, 1, 10.0)) == 20.0


def test_a_run_of_an_older_version_is_compared_as_it_decoded(tmp_path):
    """Its config has no key `training.decoding`: it decoded every image at its whole size."""
    write_run(tmp_path / "random_seed0", "random", 0, [0.1, 0.2])
    write_run(tmp_path / "entropy_seed0", "entropy", 0, [0.1, 0.4], training={"decoding": "full"})
    compare_runs([tmp_path])
    write_run(tmp_path / "margin_seed0", "margin", 0, [0.1, 0.4], training={"decoding": "reduced"})
    with pytest.raises(ConfigError, match=r"training\.decoding differs \(full and reduced\)"):
        compare_runs([tmp_path])
