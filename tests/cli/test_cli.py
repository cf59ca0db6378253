"""The commands as other people's scripts call them: output, exit codes, errors of one paragraph."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.config.reference import config_reference
from alloop.errors import ConfigError
from alloop.files import run_lock
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from strategies import TABLE
from tests.support import small_tree

ROOT = Path(__file__).parents[2]
COMMANDS = [
    "demo",
    "run",
    "study",
    "status",
    "ledger",
    "verify",
    "compare",
    "report",
    "strategies",
    "check-data",
    "convert",
]


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "c.yaml").write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 2})))
    call("run", folder / "c.yaml", "--out", folder / "run", "--quiet")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_teaches(command):
    assert len(call(command, "--help").output) > 150


@pytest.mark.parametrize(
    "code",
    ["import alloop", "import alloop.cli.app, alloop.results.compare, alloop.ledger.store, strategies"],
)
def test_torch_is_not_imported(code):
    check = f"{code}; import sys; assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_commands_without_detector_start_without_torch(finished):
    for arguments in (["status", "run"], ["ledger", "run"], ["verify", "run"], ["strategies"], ["compare", "run"]):
        check = (
            f"import sys; sys.argv = ['alloop', *{arguments!r}]\nfrom alloop.cli.app import app\n"
            "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\nassert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", check], check=True, cwd=finished, stdout=subprocess.DEVNULL)


def test_run_prints_the_curve_and_resumes(finished):
    result = call("run", finished / "c.yaml", "--out", finished / "run", "--quiet")
    assert re.search(r"^ +1 +10 +\d+ +0\.\d{3}", result.output, re.MULTILINE)
    assert "finished" in call("status", finished / "run").output


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


def test_strategies_lists_the_table():
    assert [row["name"] for row in json.loads(call("strategies", "--format", "json").output)] == list(TABLE)
    assert all(name in call("strategies").output for name in TABLE)


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


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loop.ronds=3", "did you mean 'rounds'"),
        ("training.lr=fast", "training.lr"),
        ("training.lr=.nan", "training.lr"),
        ("loop.seed_set=0", "loop.seed_set"),
        ("strategy.name=entropi", "did you mean 'entropy'"),
        ("detector.channels=33", "multiple of 32"),
        ("training.epochs=3", "either epochs or iterations"),
        ("loop.budget=2 images", "does not even pay"),
        ("nonsense", "key=value"),
        ("random_seed=-1", "random_seed"),
    ],
)
def test_config_mistakes_exit_2_in_one_paragraph(finished, override, words):
    result = call("run", finished / "c.yaml", "--set", override, "--out", finished / "never", code=2)
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (finished / "never" / "run.db").exists()


def test_missing_files_and_variables_are_named(tmp_path, monkeypatch):
    assert "nowhere.yaml" in call("run", tmp_path / "nowhere.yaml", code=2).output
    monkeypatch.delenv("ALLOOP_DATA", raising=False)
    assert "ALLOOP_DATA" in call("run", ROOT / "configs/bccd_fcos.yaml", code=2).output
    assert "run.db" in call("status", tmp_path, code=2).output
    call("check-data", tmp_path / "none.json", code=1)


def test_paths_are_relative_to_the_config_and_variables_are_replaced(tmp_path, monkeypatch):
    tree = small_tree(
        data={"train": {"annotations": "a.json", "images": "${PICTURES}/x"}, "test": {"annotations": "b.json"}}
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("PICTURES", "/srv/pictures")
    config = load_config(tmp_path / "sub" / "c.yaml")
    assert config.data.train.annotations == tmp_path / "sub" / "a.json"
    assert config.data.train.images == Path("/srv/pictures/x")


def test_a_new_strategy_by_override_drops_the_old_ones_parameters_in_any_order(tmp_path):
    tree = small_tree(strategy={"name": "entropy", "aggregation": "max"})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    other = load_config(tmp_path / "c.yaml", ["strategy.aggregation=mean", "strategy.name=margin"])
    assert (other.strategy.name, other.strategy.parameters) == ("margin", {"aggregation": "mean"})
    assert load_config(tmp_path / "c.yaml", ["strategy.name=k_center"]).strategy.parameters == {}
    assert load_config(tmp_path / "c.yaml", ["strategy.name=entropy"]).strategy.parameters == {"aggregation": "max"}


def test_the_resolved_config_is_a_config(finished):
    config = parse_config(small_tree())
    assert parse_config(yaml.safe_load(config.to_yaml())) == config


def test_the_config_reference_is_what_the_models_say():
    assert (ROOT / "docs" / "config.md").read_text() == config_reference()


@pytest.mark.parametrize("name", ["bccd_fcos", "bccd_faster_rcnn"])
def test_bccd_configs_run_shrunken_on_the_real_images(name, tmp_path, real_data, monkeypatch):
    monkeypatch.setenv("ALLOOP_DATA", str(real_data))
    shrunk = ["training.iterations=2", "loop.rounds=2", "loop.seed_set=3", "loop.query_size=2", "detector.long_side=96"]
    config = load_config(ROOT / "configs" / f"{name}.yaml", [*shrunk, "strategy.name=random", "training.threads=1"])
    rounds = run_experiment(config, tmp_path, TABLE)
    assert [r.images for r in rounds] == [3, 5]


def test_check_data_counts_and_names_problems(tmp_path):
    tree = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 10, "height": 10},
            {"id": 2, "file_name": "b.png", "width": 10, "height": 10},
        ],
        "categories": [{"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 8, "image_id": 1, "category_id": 4, "bbox": [1, 1, 5, 5]},
            {"id": 9, "image_id": 1, "category_id": 4, "bbox": [1, 1, 0, 5]},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    result = call("check-data", path)
    for words in (
        "images 2, boxes 2",
        "images without a box 1",
        "cat (id 4): 2",
        "1 skipped",
        "id 9",
        "usable: yes; all 2 boxes are paid for, 1 are trained on",
    ):
        assert words in result.output
    assert "a.png" in call("check-data", path, "--images", tmp_path, code=1).output
    tree["annotations"][0]["image_id"] = 77
    path.write_text(json.dumps(tree))
    result = call("check-data", path, code=1)
    assert "image_id 77" in result.output


def test_convert_refuses_to_overwrite_and_says_what_it_wrote(tmp_path, finished):
    call("export-digits", tmp_path / "d", "--set", "pool=5", "--set", "reference=1", "--set", "test=1")
    source = tmp_path / "d" / "instances_pool.json"
    result = call("convert", source, tmp_path / "voc", "--from", "coco", "--to", "voc")
    assert "5 images" in result.output
    call("convert", source, tmp_path / "voc", "--from", "coco", "--to", "voc", code=1)
    call("check-data", tmp_path / "voc")


def test_the_readme_names_every_command_and_every_link_exists():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    for command in COMMANDS:
        assert f"alloop {command}" in text
    for name in TABLE:
        assert f"`{name}`" in text
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_python_api_in_a_few_lines(tmp_path):
    import alloop

    (tmp_path / "c.yaml").write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 1})))
    config = alloop.load_config(str(tmp_path / "c.yaml"))
    rounds = alloop.run_experiment(config, str(tmp_path / "run"), TABLE, shared=str(tmp_path / "models"))
    assert rounds[0].boxes > 0
    for folders in (str(tmp_path / "run"), tmp_path / "run", [tmp_path / "run"]):
        assert alloop.compare_runs(folders).runs[0].strategy == "entropy"
    failures = alloop.run_study(config, str(tmp_path / "study"), TABLE, strategies=["random"], seeds=[0], quiet=True)
    assert not failures
    with pytest.raises(AttributeError):
        alloop.nothing  # noqa: B018
    with pytest.raises(ConfigError):
        alloop.compare_runs([tmp_path / "nothing"])


def test_progress_is_lines_off_a_terminal_and_nothing_when_quiet():
    for quiet in (False, True):
        stream = io.StringIO()
        progress = Progress(quiet=quiet, prefix="a: ", stream=stream)
        for step in range(5):
            progress.step("training", step + 1, 5, "loss 1.0")
        progress.say("done")
        assert stream.getvalue().splitlines() == ([] if quiet else ["a: training: 1/5 loss 1.0", "a: done"])


def test_an_unexpected_error_is_one_paragraph_without_traceback(finished, monkeypatch):
    def fail(_folder):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr("alloop.results.status.status_blocks", fail)
    result = call("status", finished / "run", code=1)
    assert "unexpected ZeroDivisionError: by nothing" in result.output
    with pytest.raises(ZeroDivisionError):
        call("status", finished / "run", "--debug")


def test_a_reader_that_leaves_early_is_no_error(finished):
    command = f"{sys.executable} -m alloop ledger {finished / 'run'} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.startswith("round,")
    assert done.stderr == ""
