"""`alloop check-data CONFIG`: all splits and strategies of an experiment, before anything is trained."""

import json
import shutil

import pytest
import yaml

from tests.support.commands import call
from tests.support.projects import images_of, write_project


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path)


def test_it_shows_sizes_and_plan_and_what_can_run(project):
    told = call("check-data", project, "--strategies", "all").output
    assert [line.split()[:2] for line in told.splitlines()[1:4]] == [["train", "12"], ["test", "4"], ["reference", "3"]]
    assert "64 x 64" in told
    assert "no image file is in two splits" in told
    assert "plan: 3 images first, then 1 times 2 images: 5 of 12 images" in told
    assert "can run: random, " in told
    assert "cannot run: tfdp: needs masks" in told
    assert not (project.parent / "runs").exists()


def test_a_strategy_that_cannot_run_is_wrong_usage(project):
    told = call("check-data", project, "--strategies", "entropy,tfdp", code=2).output
    assert "can run: entropy" in told
    assert "tfdp cannot run" in told
    found = json.loads(call("check-data", project, "--format", "json").output)
    assert found["problems"] == {}
    assert [row["images"] for row in found["splits"]] == ["12", "4", "3"]


def test_an_image_in_two_splits_is_named(project):
    pool, test = (images_of(project.parent, split)[0] for split in ("pool", "test"))
    shutil.copy(pool, test)
    told = call("check-data", project).output
    assert "warning: 1 image file is in two splits" in told
    assert pool.name in told


def test_a_missing_image_is_an_error_about_data(project):
    images_of(project.parent, "test")[0].unlink()
    assert "cannot be read (no such file)" in call("check-data", project, code=1).output


def test_small_boxes_and_a_long_warm_up_are_noted(project):
    tree = yaml.safe_load(project.read_text())
    tree["detector"] |= {"short_side": 16, "long_side": 16}
    tree["training"]["warmup_iterations"] = 4
    project.write_text(yaml.safe_dump(tree))
    told = call("check-data", project).output
    assert "of the boxes of the pool have sides under 8 px after scaling" in told
    assert "warning: the warm-up covers 100% of the 4 steps" in told


def test_few_passes_and_rare_test_classes_are_noted(project):
    told = call("check-data", project).output  # 4 steps of 4 images over 5 images
    assert "warning: so few passes limit AP by steps and not by labels" in told
    assert "classes with under 10 boxes in the test split, whose AP is mostly chance: " in told
    tree = yaml.safe_load(project.read_text())
    tree["training"]["iterations"] = 40
    project.write_text(yaml.safe_dump(tree))
    told = call("check-data", project).output
    assert "so few passes" not in told


def test_amounts_in_boxes_are_told_in_images(project):
    tree = yaml.safe_load(project.read_text())
    tree["loop"] |= {"seed_set": "6 boxes", "query_size": "4 boxes"}
    project.write_text(yaml.safe_dump(tree))
    assert "plan: 6 boxes first, then 1 times 4 boxes: " in call("check-data", project).output


@pytest.mark.parametrize("option", ["--images", "--against", "--from", "--group", "--duplicates"])
def test_options_about_annotations_are_refused_with_a_config(project, option):
    value = [] if option == "--duplicates" else ["coco"]
    assert f"{option}: it is about annotations" in call("check-data", project, option, *value, code=2).output


def test_strategies_are_refused_with_annotations(project):
    annotations = project.parent / "data" / "instances_pool.json"
    assert "--strategies" in call("check-data", annotations, "--strategies", "entropy", code=2).output


def test_the_yaml_file_of_a_yolo_set_is_no_config(project):
    data, yolo = project.parent / "data", project.parent / "yolo"
    source = [data / "instances_pool.json", yolo, "--images", data / "images"]
    call("convert", *source, "--from", "coco", "--to", "yolo")
    assert "images 19, boxes 21" in call("check-data", yolo / "data.yaml", "--images", data / "images").output
