"""Runs whose detector another program trains: waiting, commands, resuming, and that nothing is done or paid twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from alloop.config import parse_config
from alloop.errors import ConfigError, DataError, TrainingError, WaitingError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.round_files import model_path, model_sha256
from alloop.progress import Progress
from alloop.results.status import read_status
from alloop.studies.grid import run_study
from strategies import TABLE
from tests.support.outside import (
    PROGRAM,
    answered,
    digit_files,
    exchange,
    external_tree,
    program,
    starts,
    write_config,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digit_files(tmp_path_factory.mktemp("digits"))


def run(tree, out, progress=None):
    return run_experiment(parse_config(tree), out, TABLE, progress=progress)


def ledger_of(out):
    """Return everything that was charged and measured."""
    with read_ledger(out) as ledger:
        rounds = ledger.rounds()
        hashes = [model_sha256(ledger, r.round) for r in rounds]
        return ledger.charges(), ledger.selections(), [(r.metrics, r.per_class) for r in rounds], hashes


def folder(out, round_, name):
    return Path(out) / "external" / f"round_{round_:03d}" / name


def by_hand(tree, out):
    """Run to the end, answering by hand whenever the run waits; return how often it waited."""
    for waited in range(10):
        try:
            run(tree, out)
        except WaitingError:
            answered(folder(out, waited, "ask"), folder(out, waited, "tell"))
        else:
            return waited
    return None


def test_a_run_waits_for_every_round_and_equals_one_with_a_command(data, tmp_path):
    assert by_hand(external_tree(data), tmp_path / "waited") == 3
    run(external_tree(data, program(tmp_path)), tmp_path / "started")
    assert ledger_of(tmp_path / "waited") == ledger_of(tmp_path / "started")
    assert len(starts(tmp_path)) == 3


def test_the_message_says_where_and_what(data, tmp_path):
    with pytest.raises(WaitingError) as waiting:
        run(external_tree(data, strategy="localization_stability"), tmp_path)
    assert waiting.value.exit_code == 3
    for part in (folder(tmp_path, 0, "ask"), folder(tmp_path, 0, "tell"), "pool, test, noisy_8", "manifest.json"):
        assert str(part) in str(waiting.value)
    with read_ledger(tmp_path) as ledger:
        assert not ledger.rounds()
    shown = read_status(tmp_path)
    assert shown.state == "round 0 waits for the program that trains"
    assert f"program  asked in {folder(tmp_path, 0, 'ask')}" in shown.lines()
    answered(folder(tmp_path, 0, "ask"), folder(tmp_path, 0, "tell"))
    assert read_status(tmp_path).state == "round 0 is open"


def test_a_finished_run_does_nothing(data, tmp_path):
    tree = external_tree(data, program(tmp_path))
    run(tree, tmp_path / "run")
    before = ledger_of(tmp_path / "run")
    run(tree, tmp_path / "run")
    assert (ledger_of(tmp_path / "run"), len(starts(tmp_path))) == (before, 3)


class StopAtRound(Progress):
    """Stops a run between the answer of a round and its booking."""

    def __init__(self):
        super().__init__(quiet=True)

    def step(self, task, done, total, detail=""):
        if "select" in task:
            raise KeyboardInterrupt


def test_a_round_that_was_answered_is_not_asked_again(data, tmp_path):
    tree = external_tree(data, program(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run(tree, tmp_path / "run", StopAtRound())
    with read_ledger(tmp_path / "run") as ledger:
        assert not ledger.rounds()
        assert ledger.stored(model_path(0)) is not None
    for path in folder(tmp_path / "run", 0, "tell").iterdir():
        path.write_text("changed after it was read")
    run(tree, tmp_path / "run")
    run(tree, tmp_path / "whole")
    assert ledger_of(tmp_path / "run") == ledger_of(tmp_path / "whole")
    assert len([line for line in starts(tmp_path) if "/run/external/round_000" in line]) == 1


def test_an_answer_that_is_there_before_the_program_runs_is_taken(data, tmp_path):
    tree = external_tree(data)
    with pytest.raises(WaitingError):
        run(tree, tmp_path / "run")
    tree = external_tree(data, program(tmp_path, "raise SystemExit(7)"))
    with pytest.raises(ConfigError, match=r"detector\.command"):
        run(tree, tmp_path / "run")  # another command is another experiment
    with pytest.raises(TrainingError, match=r"exit code 7.*log\.txt"):
        run(tree, tmp_path / "other")
    answered(folder(tmp_path / "other", 0, "ask"), folder(tmp_path / "other", 0, "tell"))
    with pytest.raises(TrainingError, match="exit code 7"):
        run(tree, tmp_path / "other")
    with read_ledger(tmp_path / "other") as ledger:
        assert [r.round for r in ledger.rounds()] == [0]


def test_the_time_limit_may_be_raised_while_a_run_goes_on(data, tmp_path):
    text = f"if not Path({str(tmp_path / 'fast')!r}).exists():\n    import time; time.sleep(60)\nanswered(ask, tell)"
    tree = external_tree(data, program(tmp_path, PROGRAM.replace("answered(ask, tell)", text)))
    tree["detector"]["time_limit_hours"] = 2.0 / 3600
    with pytest.raises(TrainingError, match=r"Raise detector\.time_limit_hours"):
        run(tree, tmp_path / "run")
    (tmp_path / "fast").touch()
    tree["detector"]["time_limit_hours"] = 1.0
    run(tree, tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('no weights'); raise SystemExit(3)", r"exit code 3.*\n.*\n  no weights"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
        ("print('done')", "without an answer"),
        ("import time; time.sleep(60)", "was stopped"),
    ],
)
def test_a_program_that_fails_books_nothing(data, tmp_path, text, message):
    tree = external_tree(data, program(tmp_path, text))
    tree["detector"]["time_limit_hours"] = 1.5 / 3600
    with pytest.raises(TrainingError, match=message):
        run(tree, tmp_path / "run")
    with read_ledger(tmp_path / "run") as ledger:
        assert not ledger.rounds()
        assert ledger.stored(model_path(0)) is None
    assert folder(tmp_path / "run", 0, "log.txt").is_file()


def test_a_program_that_cannot_be_started_is_named(data, tmp_path):
    with pytest.raises(TrainingError, match=r"no_such_program.*cannot be started"):
        run(external_tree(data, "no_such_program {ask} {tell}"), tmp_path / "run")


def test_what_the_program_started_ends_with_it_at_the_time_limit(data, tmp_path):
    alive = tmp_path / "alive"
    child = f"import time\nwhile True:\n open({str(alive)!r}, 'w').write('x'); time.sleep(0.02)"
    text = f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    tree = external_tree(data, program(tmp_path, text))
    tree["detector"]["time_limit_hours"] = 2.0 / 3600
    with pytest.raises(TrainingError, match="was stopped"):
        run(tree, tmp_path / "run")
    assert alive.is_file()
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists()


def test_an_answer_that_cannot_be_used_is_made_again_by_the_next_start(data, tmp_path):
    """The first start writes no number as a score; its program is mended then."""
    wrong = "from dataclasses import replace\nfrom tests.support import outside\n"
    text = PROGRAM.replace(
        "from tests.support.outside import answered", f"{wrong}from tests.support.outside import answered, guesses"
    )
    broken = text.replace(
        "answered(ask, tell)", "answered(ask, tell, lambda *a: [replace(b, score=1.5) for b in guesses(*a)])"
    )
    command = program(tmp_path, broken)
    with pytest.raises(DataError, match=r"tell/pool\.json: row 0 \(image \d+.*score 1\.5"):
        run(external_tree(data, command), tmp_path / "run")
    program(tmp_path)
    run(external_tree(data, command), tmp_path / "run")
    assert len(starts(tmp_path)) == 4


def test_nothing_of_an_answer_that_was_broken_off_is_left_for_the_next(data, tmp_path):
    command = program(tmp_path, "import sys\nopen(sys.argv[2] + '/pool.csv', 'w').write('half')\nraise SystemExit(1)")
    with pytest.raises(TrainingError, match="exit code 1"):
        run(external_tree(data, command), tmp_path / "run")
    assert folder(tmp_path / "run", 0, "tell/pool.csv").is_file()
    program(tmp_path)
    run(external_tree(data, command), tmp_path / "run")  # two files of predictions of the pool would be refused


def test_a_killed_run_waits_for_the_program_that_it_started(data, tmp_path):
    go_on = tmp_path / "go_on"
    waits = f"import time\nwhile not Path({str(go_on)!r}).exists():\n    time.sleep(0.02)\nanswered(ask, tell)"
    slow = PROGRAM.replace("answered(ask, tell)", waits)
    tree = external_tree(data, program(tmp_path, slow))
    tree["loop"]["rounds"] = 1
    config = write_config(tmp_path / "config.yaml", tree)
    command = [sys.executable, "-m", "alloop", "run", str(config), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not starts(tmp_path):
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    said = next(line for line in second.stderr if "works" in line or "running" in line)
    go_on.touch()
    assert "still works; waiting for it" in said
    second.communicate(timeout=300)
    assert second.returncode == 0
    assert len(starts(tmp_path)) == 1


def test_a_study_trains_a_shared_round_once(data, tmp_path):
    tree = external_tree(data, program(tmp_path))
    tree["loop"]["rounds"] = 2
    assert not run_study(parse_config(tree), tmp_path / "study", TABLE, strategies=["entropy"], seeds=[0, 1])
    rounds = [line.rsplit("/", 2)[1] for line in starts(tmp_path)]
    assert sorted(rounds) == ["round_000"] * 2 + ["round_001"] * 4, "the first is trained once for each seed"


def test_a_strategy_that_wants_more_files_shares_no_round_with_one_that_does_not(data, tmp_path):
    config = parse_config(external_tree(data, program(tmp_path)))
    assert not run_study(config, tmp_path / "study", TABLE, strategies=["k_center"], seeds=[0])
    assert [line.rsplit("/", 2)[1] for line in starts(tmp_path)].count("round_000") == 2


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        ("random", ["pool", "test"]),
        ("entropy", ["pool", "test"]),
        ("k_center", ["pool", "test", "embeddings"]),
        ("max_herding", ["pool", "test", "embeddings"]),
        ("csod", ["pool", "test", "pool_features", "labeled_features"]),
        ("talisman", ["pool", "test", "pool_features", "labeled_features"]),
        (
            "localization_stability",
            ["pool", "test", *(f"noisy_{sigma}" for sigma in range(8, 49, 8))],
        ),
    ],
)
def test_a_strategy_gets_what_it_needs(data, tmp_path, strategy, wanted):
    tree = external_tree(data, program(tmp_path), strategy)
    run(tree, tmp_path / "run")
    assert exchange().Ask(folder(tmp_path / "run", 0, "ask")).wanted == wanted
    with read_ledger(tmp_path / "run") as ledger:
        assert [r.images for r in ledger.rounds()] == [6, 10, 14]


def test_reference_images_are_predicted_for_a_strategy_that_looks_at_them(data, tmp_path):
    run(external_tree(data, program(tmp_path), "tests.support.outside:LooksAtReference"), tmp_path / "run")
    ask = exchange().Ask(folder(tmp_path / "run", 0, "ask"))
    assert (ask.predicted, len(ask.images("reference"))) == (["pool", "test", "reference"], 4)
    with read_ledger(tmp_path / "run") as ledger:
        assert {utility for _, _, _, utility, _ in ledger.selections()} == {4 * 3.0}


def test_distances_between_purchases_want_embeddings(data, tmp_path):
    tree = external_tree(data, program(tmp_path), "random")
    tree["loop"]["min_distance"] = "0.01 cosine"
    run(tree, tmp_path / "run")
    assert "embeddings" in exchange().Ask(folder(tmp_path / "run", 0, "ask")).wanted


def test_labels_grow_by_what_was_bought_and_the_pool_shrinks_by_it(data, tmp_path):
    run(external_tree(data, program(tmp_path)), tmp_path / "run")
    with read_ledger(tmp_path / "run") as ledger:
        charges = ledger.charges()
    for round_ in range(3):
        ask = exchange().Ask(folder(tmp_path / "run", round_, "ask"))
        labeled, pool = ask.images("labeled"), ask.images("pool")
        paid = {c.image_id: c.boxes for c in charges if c.round <= round_}
        assert {image.image_id: len(image.boxes) + len(image.ignored) for image in labeled} == paid
        assert len(pool) == 24 - len(paid)
        assert not {image.image_id for image in pool} & paid.keys()
        assert all(image.path.is_file() for image in [*labeled, *pool, *ask.images("test")])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("training", {"lr": 0.1}, r"training\.lr.*0\.1"),
        ("training", {"iterations": 5}, r"training\.iterations"),
        ("training", {"semi_supervised": {}, "ema": 0.9}, r"training\.(semi_supervised|ema)"),
        ("training", {"start": "previous"}, r"training\.start"),
        ("strategy", {"name": "influence"}, "last_layers.*external"),
        ("data", {"digit_scenes": {"pool": 24, "test": 8, "reference": 4}}, "export-digits"),
        ("detector", {"name": "external", "command": "a 'b"}, "quote"),
        ("detector", {"name": "external", "command": " "}, "null"),
        ("detector", {"name": "external", "labeled_as": ["yolov"]}, "yolo"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(data, tmp_path, key, value, message):
    with pytest.raises(ConfigError, match=message):
        run({**external_tree(data), key: value}, tmp_path / "run")


def test_other_detectors_still_need_a_length_of_training(data):
    tree = external_tree(data) | {"detector": {"name": "fcos"}}
    with pytest.raises(ConfigError, match="give either epochs or iterations"):
        parse_config(tree)


def test_a_first_batch_by_embeddings_needs_a_file_of_them(data, tmp_path):
    tree = external_tree(data)
    tree["loop"]["first_batch"] = "k_center"
    with pytest.raises(ConfigError, match=r"first_batch.*'external' gives none.*loop\.embeddings"):
        run(tree, tmp_path / "run")
    angles = np.linspace(0, np.pi / 2, 24, dtype=np.float32)
    np.save(tmp_path / "pool.npy", np.stack([np.cos(angles), np.sin(angles)], axis=1))
    tree["loop"]["embeddings"] = str(tmp_path / "pool.npy")
    with pytest.raises(WaitingError):
        run(tree, tmp_path / "run")
    with read_ledger(tmp_path / "run") as ledger:
        rows = sorted(charge.image_id - 1_000_000 for charge in ledger.charges())
    assert (rows[0], rows[-1]) == (0, 23), "directions in a quadrant: both ends are among the farthest"


def test_a_study_cannot_wait(data, tmp_path):
    with pytest.raises(ConfigError, match=r"detector\.command"):
        run_study(parse_config(external_tree(data)), tmp_path, TABLE, strategies=["entropy"], seeds=[0])


def test_the_labeled_images_are_written_in_further_formats(data, tmp_path):
    tree = external_tree(data)
    tree["detector"]["labeled_as"] = ["yolo", "voc"]
    with pytest.raises(WaitingError):
        run(tree, tmp_path)
    ask = exchange().Ask(folder(tmp_path, 0, "ask"))
    texts = list(folder(tmp_path, 0, "ask").glob("labeled_yolo/labels/**/*.txt"))
    lines = sum(len(path.read_text().splitlines()) for path in texts)
    assert lines == sum(len(image.boxes) for image in ask.images("labeled"))
    assert len(list(folder(tmp_path, 0, "ask").glob("labeled_voc/**/*.xml"))) == 6


def test_weights_of_the_round_are_the_answers(data, tmp_path):
    run(external_tree(data, program(tmp_path)), tmp_path / "run")
    from safetensors.numpy import load

    arrays = load((tmp_path / "run" / model_path(0)).read_bytes())
    assert len(arrays["pool/images"]) == 18
    assert len(arrays["test/images"]) == 8
    assert np.all(np.diff(arrays["test/ends"]) == 3)
