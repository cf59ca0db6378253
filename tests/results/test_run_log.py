"""What a log says about a run that goes on: the task, its speed since the last start, and the losses on the way."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from alloop.loop.engine import run_experiment
from alloop.loop.time_left import Doing
from alloop.progress import LOG
from alloop.results.run_log import PAUSE, TAIL, read_log
from alloop.results.status import read_status
from strategies import TABLE
from tests.support.runs import write_run

NOON = datetime(2026, 5, 1, 12, 0, tzinfo=timezone(timedelta(hours=2)))


def write_log(folder, *lines):
    """Write a log from (seconds after noon, text)."""
    stamps = ((NOON + timedelta(seconds=s)).isoformat(sep=" ", timespec="seconds") for s, _ in lines)
    text = "".join(f"{stamp}  {line}\n" for stamp, (_, line) in zip(stamps, lines, strict=True))
    (folder / LOG).write_text(text, encoding="utf-8")


def log_at(folder, seconds):
    return read_log(folder, NOON + timedelta(seconds=seconds))


def training(done, loss="1.5", round_=1):
    return f"round {round_}: training on 30 images: {done}/100 loss {loss} (about 12 min left in this run)"


def test_the_speed_is_that_since_the_training_was_resumed(tmp_path):
    lines = [(0, training(10)), (10, training(90)), (20, training(80)), (30, training(85)), (40, training(90, "0.25"))]
    write_log(tmp_path, *lines)
    log = log_at(tmp_path, 43)
    assert log.age == 3
    assert log.doing(1) == Doing("train", 0.9, 23.0, pytest.approx(200.0))
    assert log.losses(1) == [(80, 1.5), (85, 1.5), (90, 0.25)]
    assert log.doing(2) is None
    assert log.losses(0) == []
    assert log.lines[-1].what == "round 1: training on 30 images: 90/100 loss 0.25"


def test_a_pause_is_a_resume_as_well_and_a_run_that_is_silent_does_not_go_on(tmp_path):
    write_log(tmp_path, (0, training(10)), (1000, training(20)), (1010, training(30)))
    assert log_at(tmp_path, 1010).doing(1).training == pytest.approx(100.0)
    assert log_at(tmp_path, 1010 + PAUSE).goes_on
    assert not log_at(tmp_path, 1011 + PAUSE).goes_on


def test_the_steps_after_a_training_keep_what_it_took(tmp_path):
    train = [(0, training(0)), (50, training(100))]
    write_log(tmp_path, *train, (52, "round 1: evaluation, detections of the test split: 4/8 (about 1 s left)"))
    assert log_at(tmp_path, 55).doing(1) == Doing("evaluate", 1.0, 3.0, 50.0)
    write_log(tmp_path, *train, (52, "round 1: query, a name: 1/2: 3/4"), (60, "warning: nothing about a task"))
    assert log_at(tmp_path, 60).doing(1).step == "query"


def test_of_a_long_log_the_end_is_read_and_rubbish_is_no_line(tmp_path):
    assert not read_log(tmp_path).lines
    write_log(tmp_path, *((k, "x" * 1000) for k in range(200)), (300, training(1)))
    with (tmp_path / LOG).open("ab") as file:
        file.write(b"\xff\xfe half a line\n2026-05-01 12:00:00  no time zone\n")
    log = log_at(tmp_path, 300)
    assert log.doing(1).share == 0.01
    assert 100 < len(log.lines) * 1000 / 1024 <= TAIL / 1024


def test_a_run_says_what_it_does_and_each_step_has_its_own_name(small_config, tmp_path, monkeypatch):
    monkeypatch.setattr("alloop.progress.LINE_EVERY", 0.0)
    run_experiment(small_config(**{"loop.rounds": 2}), tmp_path, TABLE)
    texts = [line.text for line in read_log(tmp_path).lines if line.task]
    kinds = dict.fromkeys(text.partition(": ")[2].rpartition(": ")[0] for text in texts if text.startswith("round 0"))
    assert list(kinds) == [
        "training on 6 images",
        "evaluation, detections of the test split",
        "query, detections of the pool",
        "query, selecting",
    ]
    assert [line.task[1] for line in read_log(tmp_path).lines if line.task and line.task[0] == 1][-1] == "evaluation"
    booked = [line.text for line in read_log(tmp_path).lines if " of 0 to 1: " in line.text]
    assert [" left in this run)" in text for text in booked] == [True, False]


def test_status_has_a_line_about_what_goes_on_and_how_long_it_takes(tmp_path):
    write_run(tmp_path / "run", "entropy", 0, [0.1, 0.2])
    assert not any(line.startswith(("now", "left")) for line in read_status(tmp_path / "run").lines())
    from alloop.ledger.store import open_ledger

    with open_ledger(tmp_path / "run") as ledger, ledger.transaction():
        ledger.database.write("UPDATE round SET metrics = NULL WHERE round = 1")  # as if it went on
    now = datetime.now(UTC)
    lines = [(now - NOON).total_seconds() - ago for ago in (60, 10)]
    write_log(tmp_path / "run", (lines[0], training(50)), (lines[1], training(75)))
    status = read_status(tmp_path / "run")
    assert status.left.seconds == pytest.approx(0.25 * 200, rel=0.1)
    told = [line for line in status.lines() if line.startswith(("now", "left"))]
    assert told[0].startswith("now      round 1: training on 30 images: 75/100 loss 1.5 (1")
    assert told[1].startswith("left     ")
    write_log(tmp_path / "run", (lines[0] - 3600, training(50)))
    told = [line for line in read_status(tmp_path / "run").lines() if line.startswith(("now", "left"))]
    assert len(told) == 1, "a run that is stopped has no time left"
    assert told[0].endswith("(61 min ago)")
