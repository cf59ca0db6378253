"""The command `split`."""

import hashlib
import json

import yaml

from alloop.config.blocks import DataConfig
from alloop.data.splits import load_splits
from tests.support.commands import call

GOLDEN = "885547808a0f2212"


def test_split_prints_tables_and_a_config_that_loads(tmp_path, files):
    images = files / "images" / "pool"
    result = call("split", files / "instances_pool.json", "--out", tmp_path / "out", "--images", images)
    head, _, config = result.output.partition("In a config, relative to its folder:\n")
    assert head.splitlines()[0].split() == ["boxes", "all", "train", "reference", "test"]
    splits = load_splits(DataConfig.model_validate(yaml.safe_load(config)["data"]))
    counts = [len(split.dataset.images) for split in (splits.train, splits.reference, splits.test)]
    assert counts == [16, 3, 5]
    assert "all, annotated" in head


def test_the_same_command_writes_the_same_bytes_today_as_when_it_was_made(tmp_path, files):
    call("split", files / "instances_pool.json", "--out", tmp_path / "out", "--random-seed", 3)
    written = b"".join((tmp_path / "out" / f"{name}.json").read_bytes() for name in ("train", "reference", "test"))
    assert hashlib.sha256(written).hexdigest()[:16] == GOLDEN
    call("split", files / "instances_pool.json", "--out", tmp_path / "again", "--random-seed", 3)
    assert (tmp_path / "again" / "test.json").read_bytes() == (tmp_path / "out" / "test.json").read_bytes()


def test_groups_formats_and_shares_are_options(tmp_path, files):
    source = files / "instances_pool.json"
    options = ["--group", r"pattern:\d(?=\.)", "--shares", "test=0.5,train=0.5", "--to", "voc", "--format", "json"]
    tree = json.loads(call("split", source, "--out", tmp_path / "out", *options).stdout)
    assert list(tree["splits"]) == ["train", "test"]
    assert tree["config"]["data"]["train"]["format"] == "voc"
    assert tree["config"]["data"]["groups"] == {"pattern": r"\d(?=\.)"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["test", "train"]
    again = json.loads(call("split", tmp_path / "out" / "train", "--out", tmp_path / "b", "--format", "json").stdout)
    assert again["config"]["data"]["test"]["format"] == "voc", "guessed, and written as it was read"


def test_mistakes_are_named(tmp_path, files):
    source = files / "instances_pool.json"
    for options, code, words in (
        (["--shares", "train=0.5,val=0.5"], 2, "--shares: 'val' is no split"),
        (["--group", "video"], 2, "--group: 'video' is no rule"),
        (["--group", "field:clip"], 1, "24 images have no group"),
        (["--group", "folder"], 1, "1 groups with annotated images for 3 splits"),
        (["--to", "coc"], 2, "--to: 'coc' is not in the table (did you mean 'coco'?)"),
    ):
        result = call("split", source, "--out", tmp_path / "out", *options, code=code)
        assert words in result.stderr
        assert result.stdout == ""
        assert not (tmp_path / "out").exists()
    call("split", source, "--out", tmp_path / "out")
    assert "nothing is overwritten" in call("split", source, "--out", tmp_path / "out", code=1).stderr
