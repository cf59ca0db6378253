"""The progress of runs and studies."""

from dataclasses import replace

from alloop.budget.charges import Edits
from alloop.ledger.requests import RoundAnswers
from alloop.ledger.store import read_ledger
from alloop.results.status import answers_line, read_status, status_blocks
from alloop.tables import Table
from tests.support.runs import write_run, write_study


def test_a_finished_run_in_lines(tmp_path):
    write_run(tmp_path / "r", "entropy", 3, [0.1, 0.2])
    with read_ledger(tmp_path / "r") as ledger:
        spent = ledger.spent()
    assert status_blocks(tmp_path / "r") == [
        "strategy entropy, random seed 3: finished",
        "rounds   2 of 2 done",
        f"paid     {spent.images} of 29 images, {spent.boxes} boxes; no budget",
        "last     ap 0.200, ap50 0.200",
    ]


def test_the_states_of_a_run(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1])
    status = read_status(tmp_path / "r")
    assert replace(status, rounds=[], facts=None).state == "not begun"
    assert replace(status, rounds=[], facts=None).progress == "0 of ? done"
    training = replace(status, open_round=1, checkpoint_step=40)
    assert training.state == "round 1 is open"
    assert training.progress == "1 of 1 done; training checkpoint at step 40"
    assert replace(training, waiting_round=1).state == "round 1 waits for people"


def test_a_study_has_one_row_for_each_run(tmp_path):
    (table,) = status_blocks(write_study(tmp_path))
    assert isinstance(table, Table)
    names = ["entropy_seed0", "entropy_seed1", "random_seed0", "random_seed1"]
    assert [row[:3] for row in table.rows] == [(name, "finished", "2 of 2 done") for name in names]
    assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_answers_of_a_round_in_one_line():
    answers = RoundAnswers(2, {"skipped": 1, "done": 4}, 9.6, 11, 30.0, 5.5, 12.4, Edits(3, 2, 1, 6))
    assert answers_line(answers) == (
        "round 2: 4 done, 1 skipped; 11 boxes (predicted 10), cost 5.50, 42 s of work"
        "; of 6 boxes shown 3 accepted, 2 moved, 1 deleted; 6 added"
    )
    plain = replace(answers, predicted_boxes=0.0, seconds=0.0, set_aside_seconds=0.0, edits=Edits(0, 0, 0, 6))
    assert answers_line(plain) == "round 2: 4 done, 1 skipped; 11 boxes, cost 5.50"
