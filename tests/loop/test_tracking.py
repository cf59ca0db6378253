"""Trackers are shown every booked round and change nothing: not the run, not its identity, not its end."""

import csv
import dataclasses
import io
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from alloop.config import load_config, parse_config
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from alloop.results.compare import compare_runs
from alloop.studies.grid import run_study
from alloop.trackers.tracker import TrackedRun
from strategies import TABLE
from tests.support import small_tree
from tests.support.people import Annotator, tree_of

EVENTS = []


@dataclasses.dataclass(frozen=True)
class Listening:
    """A tracker that remembers what it was shown, and raises where it is asked to."""

    raises: str = ""

    def open(self, run):
        assert isinstance(run, TrackedRun)
        EVENTS.append(("open", [figures.round for figures in run.finished]))
        self.fail("open")
        return self

    def booked(self, figures):
        EVENTS.append(("booked", figures.round, figures.boxes, figures.images, figures.metrics["ap"]))
        random.random()
        np.random.rand(3)  # noqa: NPY002
        torch.rand(3)
        self.fail("booked")
        self.fail("exit", SystemExit)

    def close(self):
        EVENTS.append(("close",))
        self.fail("close")

    def fail(self, where, error=RuntimeError):
        if self.raises == where:
            raise error(f"no network\nin {where}")


@dataclasses.dataclass(frozen=True)
class Refusing:
    """A tracker whose parameters cannot work."""

    def open(self, run):
        msg = "trackers.server: is no address"
        raise ConfigError(msg)


@dataclasses.dataclass(frozen=True)
class Needing:
    """A tracker that needs a package that nobody has."""

    packages = ("no_such_package_at_all",)

    def open(self, run):
        raise AssertionError


@pytest.fixture(autouse=True)
def _named(monkeypatch):
    monkeypatch.setitem(sys.modules, "watchers", sys.modules[__name__])
    EVENTS.clear()


def config(*trackers, **changes):
    return parse_config(small_tree(trackers=list(trackers), **changes))


def record(folder):
    """Everything that is recorded about a run but the time it took and the command."""
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        facts = ledger.facts()
        rounds = [(r.round, r.images, r.boxes, dict(r.metrics), dict(r.per_class)) for r in ledger.rounds()]
        return dataclasses.replace(facts, folder=""), rounds, ledger.charges(), ledger.selections(), ledger.files()


def shown(folder):
    with (folder / "rounds.csv").open(newline="") as file:
        return [(int(row["round"]), int(row["boxes"]), int(row["images"])) for row in csv.DictReader(file)]


def booked(folder):
    with read_ledger(folder) as ledger:
        return [(r.round, r.boxes, r.images) for r in ledger.rounds()]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A finished run without trackers."""
    folder = tmp_path_factory.mktemp("plain")
    run_experiment(parse_config(small_tree()), folder, TABLE)
    return folder


@pytest.mark.parametrize("raises", ["", "open", "booked", "exit", "close"])
def test_a_run_is_the_same_whatever_its_trackers_do(plain, tmp_path, raises):
    lines = io.StringIO()
    trackers = ({"name": "watchers:Listening", "raises": raises}, "csv")
    run_experiment(config(*trackers), tmp_path / "run", TABLE, progress=Progress(stream=lines))
    assert record(tmp_path / "run") == record(plain)
    assert shown(tmp_path / "run") == booked(plain), "one tracker that fails does not keep the others from it"
    said = [line for line in lines.getvalue().splitlines() if "tracker" in line]
    if raises in ("booked", "exit"):
        assert "warning: tracker watchers:Listening failed after round 0 (" in said[0]
        assert said[1:] == ["warning: tracker watchers:Listening failed 3 times; the run's own record is complete"]
    else:
        assert len(said) == bool(raises)
    assert all("no network in" in line for line in said[:1])


def test_a_tracker_is_shown_each_round_after_it_is_booked(plain, tmp_path):
    run_experiment(config("watchers:Listening"), tmp_path, TABLE)
    with read_ledger(tmp_path) as ledger:
        rounds = [("booked", r.round, r.boxes, r.images, r.metrics["ap"]) for r in ledger.rounds()]
    assert [("open", []), *rounds, ("close",)] == EVENTS


def test_a_tracker_cannot_change_what_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(Listening, "booked", lambda _self, figures: figures.metrics.update(ap=1.0))
    lines = io.StringIO()
    run_experiment(config("watchers:Listening"), tmp_path, TABLE, progress=Progress(stream=lines))
    assert "AttributeError" in lines.getvalue()


def test_trackers_may_change_between_two_starts_and_a_finished_run_is_shown_as_well(plain, tmp_path):
    run_experiment(config("csv", **{"loop.rounds": 2}), tmp_path / "two", TABLE)
    run_experiment(config("watchers:Listening", **{"loop.rounds": 2}), tmp_path / "two", TABLE)
    assert EVENTS == [("open", [0, 1]), ("close",)], "finished: nothing is booked any more"
    assert len(compare_runs([tmp_path / "two"]).runs) == 1
    assert run_experiment(config("csv"), plain, TABLE)
    assert shown(plain) == booked(plain)
    (plain / "rounds.csv").unlink()


def test_runs_with_other_trackers_are_compared(plain, tmp_path):
    run_experiment(config("csv", strategy={"name": "random"}), tmp_path / "random", TABLE)
    assert {run.strategy for run in compare_runs([plain, tmp_path / "random"]).runs} == {"entropy", "random"}


KILLED = """
import os, signal, sys
from alloop.config import load_config
from alloop.loop.engine import run_experiment
from alloop.loop.tracking import Trackers
from strategies import TABLE
at, when = int(sys.argv[3]), sys.argv[4]
show = Trackers.booked
def booked(self, record):
    if when == "after":
        show(self, record)
    if record.round == at:
        os.kill(os.getpid(), signal.SIGKILL)
    if when == "before":
        show(self, record)
Trackers.booked = booked
run_experiment(load_config(sys.argv[1]), sys.argv[2], TABLE)
"""


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_was_killed_ends_with_each_round_once_in_the_csv(plain, tmp_path, at, when):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(small_tree(trackers=["csv"])))
    command = [sys.executable, "-c", KILLED, tmp_path / "c.yaml", tmp_path / "run", str(at), when]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(booked(tmp_path / "run")) == at + 1
    run_experiment(load_config(tmp_path / "c.yaml"), tmp_path / "run", TABLE)
    assert shown(tmp_path / "run") == booked(tmp_path / "run") == booked(plain)


def test_trackers_of_a_run_that_waits_for_people_are_closed_and_opened_again(files, tmp_path):
    from alloop.errors import WaitingError

    tree = tree_of(files, tmp_path / "people", **{"loop.rounds": 2}) | {"trackers": ["csv", "watchers:Listening"]}
    people = Annotator(files, tmp_path / "people")
    for round_ in range(2):
        with pytest.raises(WaitingError):
            run_experiment(parse_config(tree), tmp_path / "run", TABLE)
        people.answer(round_)
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    assert shown(tmp_path / "run") == booked(tmp_path / "run")
    kinds = [event[0] for event in EVENTS]
    assert kinds == ["open", "close", "open", "booked", "close", "open", "booked", "close"]


def test_the_runs_of_a_study_have_a_file_each(tmp_path):
    failures = run_study(
        config("csv", **{"loop.rounds": 2}), tmp_path, TABLE, strategies=["entropy"], seeds=[0], quiet=True
    )
    assert not failures
    for name in ("random_seed0", "entropy_seed0"):
        assert shown(tmp_path / name) == booked(tmp_path / name)


# what is refused at the start


@pytest.mark.parametrize(
    ("tracker", "words"),
    [
        ("csvv", r"trackers\.name: 'csvv' is not in the table \(did you mean 'csv'\?\)"),
        ("no.such:Class", "cannot be imported"),
        ("watchers:record", "expected .* to be a dataclass"),
        ("io:StringIO", "to be a dataclass"),
        ({"name": "csv", "fil": "x"}, r"trackers\.fil: 'csv' has no such parameter \(did you mean 'file'\?\)"),
        ({"name": "csv", "project": "x"}, r"trackers\.project: 'csv' has no such parameter"),
        ({"file": "x"}, r"trackers\.0\.name: this key is required and missing"),
        (7, r"trackers\.0"),
    ],
)
def test_what_is_no_tracker_is_refused_by_its_key(tracker, words):
    with pytest.raises(ConfigError, match=words):
        config(tracker)


@pytest.mark.parametrize(
    ("tracker", "words"),
    [("watchers:Refusing", "trackers.server: is no address"), ("watchers:Needing", "install it")],
)
def test_a_tracker_that_cannot_work_stops_the_run_before_the_first_round(tmp_path, tracker, words):
    with pytest.raises(ConfigError, match=words):
        run_experiment(config(tracker), tmp_path / "run", TABLE)
    assert booked(tmp_path / "run") == []


def test_a_study_does_not_start_without_a_package(tmp_path):
    with pytest.raises(ConfigError, match="needs the package no_such_package_at_all"):
        run_study(config("watchers:Needing"), tmp_path / "study", TABLE, strategies=["entropy"], seeds=[0])
    assert not (tmp_path / "study").exists()


def test_the_recorded_experiment_names_no_trackers():
    assert config("csv").to_yaml() == config().to_yaml()
    assert parse_config(yaml.safe_load(config("csv").to_yaml())).trackers == ()
    assert [block.name for block in config("csv", {"name": "csv", "file": "b.csv"}).trackers] == ["csv", "csv"]
