"""Studies: grids, settings, repetitions; other ways of counting cost; what was bought; the pictures of it."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config.overrides import parsed_values
from alloop.config.reading import parse_config
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.results.compare import compare_runs
from alloop.studies.grid import Grid, served_by, settings_of
from strategies import TABLE
from tests.support import small_tree


def test_settings_are_every_combination():
    config = parse_config(small_tree())
    found = dict(settings_of(config, {"training.lr": [0.1, 0.2], "detector.name": ["fcos", "retinanet"]}))
    assert list(found) == ["lr=0.1,name=fcos", "lr=0.1,name=retinanet", "lr=0.2,name=fcos", "lr=0.2,name=retinanet"]
    assert found["lr=0.2,name=retinanet"].training.lr == 0.2
    assert dict(settings_of(config, {})) == {"": config}
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        dict(settings_of(config, {"training.lrr": [1]}))
    assert parsed_values("training.lr=0.1,0.2") == ("training.lr", [0.1, 0.2])
    for wrong in ("training.lr", "=1", "training.lr=", "training.lr=1,,2"):
        with pytest.raises(ConfigError, match="expected key=value"):
            parsed_values(wrong)


def test_a_study_repeats_and_varies(study):
    out, told = study
    for setting in ("name=fcos", "name=retinanet"):
        comparison = compare_runs([out / setting])
        assert len(comparison.runs) == 4
        assert [r.name for r in comparison.replicates] == ["random_seed0_replay1", "entropy_seed0_replay1"]
        assert comparison.replicate_noise == 0, "the same config, seed and threads give the same bytes on a CPU"
    assert len(list((out / "shared").glob("*.json"))) > 0
    assert len(list((out / "shared" / "replay1").glob("*.json"))) > 0, "a repetition trains its own models"
    with pytest.raises(ConfigError, match="give one: name=fcos, name=retinanet"):
        compare_runs([out])
    assert re.search(r"run 2 of 12: name=fcos/entropy_seed0 \(3 of 36 rounds done, about .+ left\)", told)


def test_arms_are_named_and_repeated_at_the_first_seed():
    arms = Grid(strategies=["entropy"], seeds=[3, 4], replicates=2).arms(parse_config(small_tree()), threads=1)
    assert [(a.name, a.replicate) for a in arms if a.replicate] == [
        (f"{name}_seed3_replay{k}", k) for k in (1, 2) for name in ("random", "entropy")
    ]


def test_all_is_what_the_detector_serves():
    fcos, without = served_by(parse_config(small_tree()), TABLE)
    assert {"random", "entropy", "influence", "csod"} <= set(fcos)
    assert without["localization_tightness"] == ["proposals"]
    assert "masks" in without["mask_entropy"]
    assert fcos == [name for name in TABLE if name not in without]
    tree = small_tree()
    tree["detector"]["name"] = "mask_rcnn"
    assert served_by(parse_config(tree), TABLE) == (list(TABLE), {})


def test_workers_end_with_a_killed_study(tmp_path):
    """Only the parent is killed; its workers notice and leave ledgers that are whole."""
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(small_tree(**{"training.iterations": 400})))
    command = [sys.executable, "-m", "alloop", "study", str(config), "--strategies", "random", "--seeds", "0,1"]
    command += ["--workers", "2", "--out", str(tmp_path / "out"), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not workers_of(process.pid):
            time.sleep(0.2)
        workers = workers_of(process.pid)
        assert workers
        time.sleep(3)  # into their work
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.2)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for path in (tmp_path / "out").glob("*/run.db"):
        with read_ledger(path.parent) as ledger:
            assert audit(ledger) == []


def workers_of(parent):
    """Process ids of the children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in (path.parent / "cmdline").read_text():
            found.append(int(path.parent.name))
    return found


def test_studies_begin_from_the_command_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 2, "training.iterations": 1})))
    command = ["study", str(config), "--strategies", "random", "--seeds", "0", "--replicates", "1", "--quiet"]
    command += ["--vary", "training.lr=0.001,0.002", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"lr=0.001", "lr=0.002", "shared", "cache", "log.txt"}
    assert "lr=0.001" in told.output
    assert (tmp_path / "out" / "lr=0.002" / "report.html").is_file()
    assert CliRunner().invoke(app, [*command[:-4], "--vary", "training.lrr=1"]).exit_code == 2
