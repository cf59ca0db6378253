"""The command `init`."""

import yaml

from tests.support.commands import call
from tests.support.projects import write_project

TINY = {
    "detector.backbone": "tiny",
    "detector.weights": "none",
    "training.iterations": "2",
    "training.threads": "1",
    "loop.rounds": "2",
}


def test_a_project_that_init_made_runs(tmp_path):
    data = write_project(tmp_path).parent / "data"
    options = ["--images", data / "images", "--test", data / "instances_test.json", "--device", "cpu"]
    result = call("init", data / "instances_pool.json", *options, "--out", tmp_path / "project")
    config = tmp_path / "project" / "config.yaml"
    shown = result.output.splitlines()
    assert shown[0].split() == ["key", "value", "reason"]
    assert "can run: entropy" in shown
    assert f"  alloop study {config} --strategies entropy --seeds 0,1,2 --out {tmp_path}/project/study" in shown
    settings = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    call("run", config, "--out", tmp_path / "run", *settings, "--quiet")
    assert "round 1" in call("status", tmp_path / "run").output


def test_the_reason_for_each_key_stands_on_its_line(tmp_path):
    data = write_project(tmp_path).parent / "data"
    options = ["--images", data / "images", "--test", f"{data / 'instances_test.json'}={data / 'images'}"]
    result = call("init", data / "instances_pool.json", *options, "--out", tmp_path / "project", "--device", "cpu")
    text = (tmp_path / "project" / "config.yaml").read_text()
    table = result.output.partition("\n\n")[0].splitlines()[1:]
    for line in table:
        key, value, reason = line.split(None, 2)
        block, _, name = key.rpartition(".")
        assert f"{'  ' if block else ''}{name}: {value}" in text
        assert text.count(f"  # {reason}\n") >= 1
        tree = yaml.safe_load(text)
        assert str((tree[block] if block else tree)[name]) == value


def test_pools_for_people_are_told_how_to_begin(tmp_path):
    data = write_project(tmp_path).parent / "data"
    call("import", data / "images" / "pool", "--classes", "0,1,2,3,4,5,6,7,8,9", "--out", tmp_path / "pool")
    test = f"{data}/instances_test.json={data}/images"
    options = ["--images", data / "images" / "pool", "--device", "cpu", "--test", test]
    result = call("init", tmp_path / "pool" / "pool.json", *options, "--out", tmp_path / "project")
    assert result.output.rstrip().endswith(f"--out {tmp_path}/project/run     # the first images to annotate")


def test_wrong_usage_is_told(tmp_path):
    data = write_project(tmp_path).parent / "data"
    pool = data / "instances_pool.json"
    for arguments, words in (
        ([tmp_path / "gone.json"], "there is no"),
        ([pool, "--images", tmp_path / "gone"], "there is no"),
        ([pool, "--group", "nonsense"], "is no rule"),
        ([pool, "--from", "nonsense"], "--from"),
        ([pool, "--images", data / "images", "--device", "cuda"], "not available"),
    ):
        result = call("init", *arguments, "--out", tmp_path / "project", code=2)
        assert words in result.output
    assert not (tmp_path / "project").exists()
