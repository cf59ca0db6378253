"""The commands that read a finished run."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.files import run_lock
from alloop.ledger.store import open_ledger
from tests.support import small_tree
from tests.support.commands import call


def test_ledger_csv_json_and_verify_agree(finished):
    rows = list(csv.DictReader(io.StringIO(call("ledger", finished / "run").output)))
    assert list(rows[0]) == ["round", "image_id", "boxes", "seconds", "cost"]
    tree = json.loads(call("ledger", finished / "run", "--format", "json").output)
    assert [int(r["image_id"]) for r in rows] == [r["image_id"] for r in tree]
    assert len(rows) == 10
    assert [r["predicted_boxes"] is None for r in tree] == [r["round"] == 0 for r in tree], "a random seed set is not"
    assert "10 charges" in call("verify", finished / "run").output
    compared = json.loads(call("compare", finished / "run", "--format", "json").output)
    assert compared["runs"][0]["rounds"][-1]["boxes"] == sum(int(r["boxes"]) for r in rows)


def test_report_writes_one_page_and_its_numbers(finished):
    call("report", finished / "run", "--out", finished / "r.html")
    assert all((finished / f"r.{suffix}").stat().st_size > 100 for suffix in ("html", "csv", "json"))


def test_a_locked_run_exits_75_and_a_damaged_one_76(finished, tmp_path):
    with run_lock(finished / "run"):
        assert "another process" in call("run", finished / "c.yaml", "--out", finished / "run", code=75).output
        call("status", finished / "run")  # reading is always possible
    shutil.copytree(finished / "run", tmp_path / "run")
    with next((tmp_path / "run" / "models").iterdir()).open("r+b") as handle:
        handle.seek(100)
        handle.write(b"\xff\xff")
    assert "differs from its recorded" in call("verify", tmp_path / "run", code=76).output
    (tmp_path / "run" / "run.db").write_bytes(b"garbage" * 1000)
    for command in ("status", "ledger", "verify", "compare"):
        assert "run.db" in call(command, tmp_path / "run", code=76).output


def test_a_reader_that_leaves_early_is_no_error(finished):
    command = f"{sys.executable} -m alloop ledger {finished / 'run'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.startswith("round,")
    assert done.stderr == ""


def test_the_commands_know_costs_classes_and_settings(study, tmp_path):
    folder = str(study[0] / "name=fcos")
    result = CliRunner().invoke(app, ["compare", folder, "--cost", "draw", "--classes", "--at", "500"])
    assert result.exit_code == 0
    assert "at equal cost (draw, seconds)" in result.output
    assert "KL from the pool" in result.output
    tree = json.loads(CliRunner().invoke(app, ["compare", folder, "--format", "json", "--classes"]).output)
    assert tree["classes"]["names"] == [str(k) for k in range(10)]
    assert tree["runs"][0]["paid"] == [r["boxes"] for r in tree["runs"][0]["rounds"]]
    wrong = CliRunner().invoke(app, ["compare", folder, "--cost", "bxes"])
    assert wrong.exit_code == 2
    out = CliRunner().invoke(app, ["report", folder, "--out", str(tmp_path / "r.html"), "--cost", "images"])
    assert out.exit_code == 0
    assert "images paid" in (tmp_path / "r.html").read_text()


def test_verify_says_that_a_run_never_began_and_is_not_fooled_by_a_lost_config(finished, tmp_path):
    with open_ledger(tmp_path):
        pass
    assert "not begun" in call("verify", tmp_path).output
    shutil.copytree(finished / "run", tmp_path / "run")
    with open_ledger(tmp_path / "run") as ledger:
        ledger.database.write("DELETE FROM fact WHERE name = 'config'")
    assert "not begun" not in call("verify", tmp_path / "run", code=76).output


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    """A study of two strategies that kept its test detections, on clips of two frames."""
    folder = tmp_path_factory.mktemp("grouped")
    scenes = {"pool": 24, "reference": 4, "test": 12, "max_digits": 3, "video": 2}
    tree = small_tree(
        **{
            "data": {"digit_scenes": scenes, "groups": {"folder": True}},
            "evaluation.keep_detections": True,
            "loop.seed_set": 12,
            "loop.rounds": 2,
            "training.iterations": 80,  # enough to detect something
        }
    )
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))
    call("study", folder / "c.yaml", "--strategies", "entropy", "--seeds", "0", "--out", folder / "s", "--quiet")
    return folder


def test_compare_over_groups_in_every_format(grouped):
    text = call("compare", grouped / "s", "--over-groups", "--resamples", 200).output
    assert "AP with 95 % intervals over 6 test groups (12 images, 200 resamples)" in text
    assert "warning: 6 test groups are too few" in text
    assert "entropy against random at equal boxes" in text
    tree = json.loads(call("compare", grouped / "s", "--over-groups", "--format", "json").output)["over_groups"]
    plain = json.loads(call("compare", grouped / "s", "--format", "json").output)
    rounds = plain["runs"]
    assert rounds[0]["paid"] != rounds[1]["paid"], "so the curves are read between their rounds"
    assert abs(tree["differences"][0]["value"]) > 1e-6, "so that zero is not compared with zero"
    assert tree["differences"][0]["value"] == pytest.approx(plain["comparisons"][0]["difference"], abs=1e-12)
    assert [entry["value"] for entry in tree["rounds"]] == pytest.approx(
        [r["ap"] for run in rounds for r in run["rounds"]]
    )
    assert tree["resamples"] == 2000
    rows = list(csv.DictReader(io.StringIO(call("compare", grouped / "s", "--over-groups", "--format", "csv").output)))
    intervals = [entry["interval"] for entry in tree["rounds"]]
    assert [[float(row["ap_low"]), float(row["ap_high"])] for row in rows] == [
        pytest.approx(i, abs=1e-6) for i in intervals
    ]
    assert "over_groups" not in plain
    for metric in ("ap50", "ap75"):
        assert f"{metric.upper()} with" in call("compare", grouped / "s", "--over-groups", "--metric", metric).output


def test_compare_over_groups_without_the_data_and_the_same_at_every_call(grouped, tmp_path):
    shutil.copytree(grouped / "s", tmp_path / "moved")
    before, after = (call("compare", folder, "--over-groups").output for folder in (grouped / "s", tmp_path / "moved"))
    assert before == after


def test_compare_over_groups_says_which_keys_are_missing(finished):
    output = call("compare", finished / "run", "--over-groups", code=2).output
    assert "evaluation.keep_detections" in output
    assert "data.groups" in output


def test_verify_and_compare_notice_changed_detections(grouped, tmp_path):
    shutil.copytree(grouped / "s" / "random_seed0", tmp_path / "run")
    path = tmp_path / "run" / "detections" / "round_001.npz"
    assert "detections" not in call("verify", tmp_path / "run").output
    path.write_bytes(path.read_bytes().replace(b"scores", b"scared"))
    assert (
        "detections/round_001.npz: differs from its recorded sha256" in call("verify", tmp_path / "run", code=76).output
    )
    call("compare", tmp_path / "run", "--over-groups", code=76)
    path.unlink()
    assert "detections/round_001.npz: recorded, but missing" in call("verify", tmp_path / "run", code=76).output
