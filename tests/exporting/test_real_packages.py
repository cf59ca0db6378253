"""An exported data set is read by the package that its format is named after. Skipped where it is missing."""

import pytest

from alloop.config import load_config
from alloop.exporting.export import export
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE
from tests.support.projects import write_project


def test_the_imagefolder_is_read_with_its_boxes(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed: the real one is not tested")
    config = write_project(tmp_path, **{"loop.rounds": 1, "loop.seed_set": 8, "training.iterations": 1})
    run_experiment(load_config(config), tmp_path / "run", TABLE)
    export(tmp_path / "run", tmp_path / "out", to="hf", round_=0)
    read = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="train")
    with read_ledger(tmp_path / "run") as ledger:
        paid = ledger.labeled()
    assert {row["image_id"]: len(row["objects"]["bbox"]) for row in read} == {i: len(paid[i]) for i in paid}
    assert all(row["image"].size == (row["width"], row["height"]) for row in read)
