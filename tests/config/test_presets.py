"""Every config is a complete experiment; those of the papers run for two shrunken rounds on data that is here."""

import os
import re
from pathlib import Path

import pytest

from alloop.config import load_config, parse_config
from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.loop.engine import run_experiment
from alloop.pruning.subset_json import subset_json
from alloop.strategy import make_strategy
from strategies import TABLE

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml"))
PAPERS = [name for name in CONFIGS if name.startswith(("isal_", "csod_", "tfdp_", "cissod_"))]


def loaded(name, monkeypatch, tmp_path):
    for variable in re.findall(r"\$\{(\w+)\}", (FOLDER / name).read_text()):
        monkeypatch.setenv(variable, os.environ.get(variable, str(tmp_path)))
    return load_config(FOLDER / name)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_complete(name, monkeypatch, tmp_path):
    config = loaded(name, monkeypatch, tmp_path)
    make_strategy(config.strategy.name, config.strategy.parameters, TABLE)
    assert parse_config(config.model_dump(mode="json")) == config


def test_every_experiment_of_the_papers_is_there():
    isal = {"isal_voc", "isal_coco", "isal_coco_large", "isal_coco_faster_rcnn"}
    csod = {"csod_voc", "csod_bdd", "csod_coco", "csod_voc_retinanet", "csod_voc_fcos"}
    tfdp = {"tfdp_voc", "tfdp_cityscapes", "tfdp_coco"}
    assert {name.removesuffix(".yaml") for name in PAPERS} == isal | csod | tfdp | {"cissod_coco"}


def shrunken(config, data, images):
    """Two rounds of two steps on 64-pixel images; everything else as in the paper."""
    tree = config.model_dump(mode="json")
    tree["data"] = data
    small = {"weights": "none", "channels": 64, "head_width": 16, "proposals": 10, "sampled_regions": 8}
    tree["detector"] |= {**small, "backbone": "resnet18", "short_side": 64, "long_side": 96}
    tree["training"] |= {"batch_size": 2, "epochs": None, "iterations": 2, "threads": 1, "device": "cpu"}
    tree["training"] |= {"warmup_iterations": 0, "warmup_share": 0.5}
    if tree["training"]["short_sides"]:
        tree["training"]["short_sides"] = [48, 64]
    tree["loop"] |= {"seed_set": f"{images} images", "query_size": f"{images} images", "rounds": 2}
    if tree["strategy"]["name"] == "influence":
        tree["strategy"] |= {"images": 2, "repetitions": 1}
    return parse_config(tree)


def a_few(folder, split, out):
    """Eight real images of a split."""
    path = folder / "annotations" / f"instances_{split}.json"
    kept = sorted(validate(read_coco(path), split).images)[:8]
    (out / f"{split}.json").write_bytes(b"".join(subset_json(path, kept)))
    return {"annotations": str(out / f"{split}.json"), "images": str(folder / "images")}


@pytest.mark.parametrize("name", PAPERS)
def test_two_shrunken_rounds_of_a_paper(name, monkeypatch, tmp_path, real_data):
    config = loaded(name, monkeypatch, tmp_path)
    if config.detector.name == "mask_rcnn":
        data = {"digit_scenes": {"pool": 12, "reference": 2, "test": 4}}
    else:
        folder = real_data / "bccd"
        data = {"train": a_few(folder, "train", tmp_path), "test": a_few(folder, "val", tmp_path)}
    rounds = run_experiment(shrunken(config, data, 3), tmp_path / "run", TABLE)
    assert [record.images for record in rounds] == [3, 6]


@pytest.mark.parametrize("name", ["bccd_fcos", "bccd_faster_rcnn"])
def test_bccd_configs_run_shrunken_on_the_real_images(name, tmp_path, real_data, monkeypatch):
    monkeypatch.setenv("ALLOOP_DATA", str(real_data))
    shrunk = ["training.iterations=2", "loop.rounds=2", "loop.seed_set=3", "loop.query_size=2", "detector.long_side=96"]
    config = load_config(FOLDER / f"{name}.yaml", [*shrunk, "strategy.name=random", "training.threads=1"])
    rounds = run_experiment(config, tmp_path, TABLE)
    assert [r.images for r in rounds] == [3, 5]
