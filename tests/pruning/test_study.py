"""Prune, then train."""

import csv
import json

import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.pruning.report import curve_png, to_csv, to_table
from alloop.pruning.study import PruneStudy
from strategies import TABLE
from tests.support import small_tree

MASK_RCNN = {"detector.name": "mask_rcnn", "training.iterations": 6}


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    tree = small_tree(**MASK_RCNN, **{"strategy.name": "tfdp", "data.digit_scenes.pool": 12})
    path.write_text(yaml.safe_dump(tree))
    return path


def test_prune_then_train(recipe, tmp_path):
    arguments = [
        "prune-study",
        str(recipe),
        "--strategies",
        "tfdp,forgetting,csod",
        "--keep",
        "0.25,0.5",
        "--seeds",
        "0,1",
    ]
    out = tmp_path / "study"
    done = CliRunner().invoke(app, [*arguments, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "pruned.csv").read_text().splitlines()))
    assert len(rows) == 2 * (1 + 2 * 4)
    assert {row["images"] for row in rows if row["keep"] == "0.25"} == {"3"}
    assert {row["images"] for row in rows if row["strategy"] == "full_label"} == {"12"}
    assert "mask_ap" in rows[0]
    assert "tfdp at 50% against random" in done.stdout
    assert (out / "pruned.png").read_bytes().startswith(b"\x89PNG")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = CliRunner().invoke(app, [*arguments, "--out", str(out), "--quiet"])
    assert again.stdout == done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    for subset in (out / "subsets").iterdir():
        head, *ids = subset.read_text().splitlines()
        facts = json.loads(head.removeprefix("# "))
        folder = out / f"{facts['strategy']}_keep{facts['keep']:g}_seed{facts['random_seed']}"
        with read_ledger(folder) as ledger:
            assert sorted(map(str, ledger.labeled())) == sorted(ids)


def test_another_setting_is_never_taken_for_the_first(recipe, tmp_path):
    study = PruneStudy(load_config(recipe), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    other = PruneStudy(load_config(recipe, ["strategy.contour=first"]), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    assert study._subset_path("tfdp", 0.5, 0) != other._subset_path("tfdp", 0.5, 0)
    assert study._subset_path("random", 0.5, 0) == other._subset_path("random", 0.5, 0)
    assert study.results() == []


def test_a_detector_that_cannot_serve_is_refused(recipe, tmp_path):
    with pytest.warns(UserWarning, match="detector fcos ignores"):
        config = load_config(recipe, ["detector.name=fcos", "training.iterations=2"])
    study = PruneStudy(config, tmp_path / "s", TABLE, ["el2n"], [0.5], [0])
    with pytest.raises(ConfigError, match="el2n needs masks"):
        study.run(quiet=True)
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        PruneStudy(config, tmp_path / "s", TABLE, ["tfdp"], [1.5], [0]).run(quiet=True)


def test_tables_of_nothing_measured_do_not_fail(recipe, tmp_path):
    study = PruneStudy(load_config(recipe), tmp_path / "s", TABLE, ["tfdp"], [0.5], [0])
    assert "keep" in to_table(study.results())
    assert to_csv([]).startswith("strategy,")
    assert curve_png([]).startswith(b"\x89PNG")


def test_prune_trains_the_detector_that_a_strategy_needs(tmp_path):
    exported = CliRunner().invoke(
        app, ["export-digits", str(tmp_path / "digits"), "--set", "pool=10", "--set", "test=4", "--set", "reference=2"]
    )
    assert exported.exit_code == 0, exported.output
    files = {path.name: path for path in (tmp_path / "digits").rglob("*.json")}
    pool = next(path for name, path in files.items() if "pool" in name)
    test = next(path for name, path in files.items() if "test" in name)
    tree = small_tree(**{"detector.name": "faster_rcnn", "training.iterations": 2})
    tree["data"] = {
        "train": {"annotations": str(pool), "images": str(tmp_path / "digits" / "images")},
        "test": {"annotations": str(test), "images": str(tmp_path / "digits" / "images")},
    }
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(tree))
    out = tmp_path / "part.json"
    arguments = ["prune", str(pool), "--strategy", "csod", "--images", "4", "--out", str(out), "--config", str(config)]
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(out.read_bytes())["images"]) == 4
    first = out.read_bytes()
    assert CliRunner().invoke(app, [*arguments, "--quiet"]).exit_code == 0
    assert out.read_bytes() == first
