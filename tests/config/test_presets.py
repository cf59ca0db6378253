"""Every config is a complete experiment; those of the papers run for two shrunken rounds on data that is here."""

import os
import re
from pathlib import Path

import pytest
import yaml

from alloop.config import load_config, parse_config
from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.loop.engine import run_experiment
from alloop.pruning.subset_json import subset_json
from alloop.strategy import make_strategy
from alloop.training.schedule import long_warmup
from strategies import TABLE
from tests.support.classification import write_class_folders

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
    isal |= {"isal_cifar10", "isal_cifar100", "isal_cifar10_large"}
    csod = {"csod_voc", "csod_bdd", "csod_coco", "csod_voc_retinanet", "csod_voc_fcos"}
    tfdp = {"tfdp_voc", "tfdp_cityscapes", "tfdp_coco"}
    assert {name.removesuffix(".yaml") for name in PAPERS} == isal | csod | tfdp | {"cissod_coco"}


def shrunken(config, data, images):
    """Two rounds of two steps on 64-pixel images; everything else as in the paper."""
    tree = config.model_dump(mode="json")
    tree["data"] = data
    if config.task == "classification":
        tree["detector"]["image_size"] = 8
        return shortened(tree, images)
    small = {"weights": "none", "channels": 64, "head_width": 16, "proposals": 10, "sampled_regions": 8}
    tree["detector"] |= {**small, "backbone": "resnet18", "short_side": 64, "long_side": 96}
    return shortened(tree, images)


def shortened(tree, images):
    """Return the config of two rounds of two steps."""
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
    if config.task == "classification":
        block = {"annotations": str(write_class_folders(tmp_path / "images")), "format": "class_folders"}
        data = {"train": block, "test": block}
    elif config.detector.name == "mask_rcnn":
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


def documented():
    """Yield preset, key and value of every cell of the tables in docs/reproducing.md, and whether a reason is given."""
    names = []
    for line in (FOLDER.parent / "docs" / "reproducing.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "key":
            names = [cell.strip("`") for cell in cells[1:-2]]
        elif names and cells[0].startswith("`"):
            for name, cell in zip(names, cells[1:-2], strict=True):
                yield name, cells[0].strip("`"), cell
        elif not line.startswith("|"):
            names = []


def flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix.rstrip("."): tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}{key}.").items()}


def written(value):
    """Write a value as the tables do."""
    if isinstance(value, list):
        short = len(value) < 4
        return f"[{', '.join(map(written, value))}]" if short else f"{value[0]} to {value[-1]}"
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


NAMED_ELSEWHERE = {"detector.name", "detector.backbone", "training.optimizer", "training.schedule", "random_seed"}


def test_every_number_of_every_preset_stands_beside_that_of_its_paper():
    """A preset that is changed has to say what its paper has."""
    cells = {(name, key): cell for name, key, cell in documented()}
    assert {name for name, _ in cells} == {name.removesuffix(".yaml") for name in PAPERS}
    for path in PAPERS:
        name = path.removesuffix(".yaml")
        tree = yaml.safe_load((FOLDER / path).read_text())
        given = {key: value for key, value in flat(tree).items() if not key.startswith(("data.", "strategy."))}
        beside = ("strategy.lambda_table", "strategy.sample", "data.train.ignored")
        given |= {key: value for key, value in flat(tree).items() if key in beside}
        for key, value in given.items():
            assert key in NAMED_ELSEWHERE or cells.get((name, key)) == written(value), f"{name}: {key}"
        for (other, key), cell in cells.items():
            assert other != name or cell == "" or key in given, f"{name} has no {key}"


def test_no_preset_warms_up_for_more_than_a_fifth_of_its_first_training(monkeypatch, tmp_path):
    images = {"tfdp_voc": 439, "tfdp_cityscapes": 892, "tfdp_coco": 35_000}  # 30 % of the set
    long = []
    for name in PAPERS:
        config = loaded(name, monkeypatch, tmp_path)
        seed_set = images.get(name.removesuffix(".yaml"), config.loop.seed_set.number)
        long += [name for _ in long_warmup(config.training, int(seed_set))]
    assert long == ["isal_voc.yaml"], "500 of its first 750 steps, as in the paper"
