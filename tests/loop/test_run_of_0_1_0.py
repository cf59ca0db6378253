"""A run folder of alloop 0.1.0 opens, verifies, compares, reports and resumes."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from strategies import TABLE

FIXTURE = Path(__file__).parents[1] / "fixtures" / "run_0_1_0"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(FIXTURE / "run", tmp_path / "run"))


class Said(Progress):
    """Keeps what is said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def command(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def contained(old, new):
    """Whether everything of `old` is in `new`; keys may have been added."""
    if isinstance(old, dict):
        return all(key in new and contained(value, new[key]) for key, value in old.items())
    if isinstance(old, list):
        return len(old) == len(new) and all(map(contained, old, new))
    return old == new


def test_the_same_charges_are_printed(folder):
    assert command("ledger", folder) == (FIXTURE / "ledger.csv").read_text()
    assert json.loads(command("ledger", folder, "--format", "json")) == json.loads(
        (FIXTURE / "ledger.json").read_text()
    )


def test_the_same_comparison_is_printed(folder):
    expected = json.loads((FIXTURE / "compare.json").read_text())
    assert contained(expected, json.loads(command("compare", folder, "--format", "json")))


def test_the_status_is_the_same(folder):
    """Every number that 0.1.0 printed is printed."""
    before, now = (FIXTURE / "status.txt").read_text(), command("status", folder)
    for word in before.replace(",", " ").replace(":", " ").replace(";", " ").split():
        assert word in now, word


def test_it_verifies_and_a_changed_byte_is_found(folder):
    command("verify", folder)
    path = folder / "models" / "round_000.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x00")
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 76


def test_the_report_holds_its_rounds_and_its_training_log(folder, tmp_path):
    command("report", folder, "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "entropy" in page
    assert "round 1" in page, "the training log of the last finished round"


def test_it_goes_on_under_its_own_config(folder):
    with read_ledger(folder) as ledger:
        before = ledger.charges()
    said = Said()
    rounds = run_experiment(load_config(FIXTURE / "config.yaml"), folder, TABLE, progress=said)
    assert sum("score of FCOS was the root" in line for line in said.lines) == 1
    assert [record.round for record in rounds] == [0, 1, 2]
    assert [record.boxes for record in rounds] == [10, 14, 18]
    assert rounds[2].training_log, "the teacher's log goes on"
    with read_ledger(folder) as ledger:
        assert ledger.charges() == before
        assert audit(ledger) == []


def test_it_is_compared_with_a_run_of_today(folder, tmp_path):
    """The older config lists the parameters of all detectors, today's those of its own."""
    config = load_config(FIXTURE / "config.yaml", ["strategy.name=random", "loop.rounds=2"])
    run_experiment(config, tmp_path / "random", TABLE)
    runs = json.loads(command("compare", folder, tmp_path / "random", "--format", "json"))["runs"]
    assert sorted(run["strategy"] for run in runs) == ["entropy", "random"]
    note = "1 of the runs are of an older version, run is one: their score of FCOS was the root"
    assert note in command("compare", folder, tmp_path / "random")
    assert "score of FCOS" not in command("compare", tmp_path / "random")


def test_it_is_refused_under_another_config(folder):
    with pytest.raises(ConfigError, match=r"loop\.query_size"):
        run_experiment(load_config(FIXTURE / "config.yaml", ["loop.query_size=4"]), folder, TABLE)
