"""A folder with a config, from annotations."""

import json
import shutil
from pathlib import Path

import pytest

from alloop.config.reading import load_config
from alloop.data.digit_files import export_digit_scenes
from alloop.data.splits import load_splits
from alloop.errors import ConfigError, DataError
from alloop.starting.project import Source, start_project
from alloop.starting.settings import Device

CPU = Device("cpu")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    export_digit_scenes(folder, ["pool=24", "reference=3", "test=6", "max_digits=3"])
    return folder


@pytest.fixture
def files(exported, tmp_path, monkeypatch):
    shutil.copytree(exported, tmp_path / "digits")
    monkeypatch.chdir(tmp_path)
    return Path("digits")


def pool(files, **changes):
    return Source(**{"annotations": files / "instances_pool.json", "images": files / "images", **changes})


def images_of(config):
    splits = load_splits(config.data, for_people=True)
    return [set(split.dataset.images.values()) for split in (splits.train, splits.reference, splits.test)]


def test_annotations_are_divided_into_splits(files, tmp_path):
    start_project(pool(files), Path("project"), CPU)
    parts = images_of(load_config("project/config.yaml"))
    assert [len(part) for part in parts] == [16, 3, 5]
    assert len(set.union(*parts)) == 24
    assert sorted(path.name for path in Path("project").iterdir()) == ["config.yaml", "splits"]
    assert not any(path.name.startswith(".") for path in tmp_path.iterdir())


def test_the_same_command_writes_the_same_bytes_and_another_seed_another_division(files):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        start_project(pool(files, random_seed=seed), Path(name), CPU)
    texts = [[path.read_bytes() for path in sorted(Path(name).rglob("*.*"))] for name in "abc"]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_project_moves_with_its_images(files, tmp_path):
    start_project(pool(files), Path("project"), CPU)
    (tmp_path / "elsewhere").mkdir()
    for name in ("digits", "project"):
        shutil.move(tmp_path / name, tmp_path / "elsewhere" / name)
    config = load_config(tmp_path / "elsewhere" / "project" / "config.yaml")
    assert sum(map(len, images_of(config))) == 24
    assert config.data.train.images == tmp_path / "elsewhere" / "digits" / "images"


def test_absolute_paths_stay(files, tmp_path):
    start_project(pool(tmp_path / "digits"), tmp_path / "project", CPU)
    text = (tmp_path / "project" / "config.yaml").read_text()
    assert f"images: {tmp_path / 'digits' / 'images'}" in text
    assert "annotations: splits/train.json" in text


def test_a_split_that_is_there_is_used(files):
    source = pool(files, test=(files / "instances_test.json", None))
    start_project(source, Path("deep/er/project"), CPU)
    config = load_config("deep/er/project/config.yaml")
    assert [path.name for path in Path("deep/er/project").iterdir()] == ["config.yaml"]
    assert [len(part) for part in images_of(config)] == [24, 6, 6]
    assert config.data.reference is None


def test_groups_are_kept_together_and_named_in_the_config(files):
    from alloop.data.groups import group_rule

    start_project(pool(files, groups=group_rule(r"pattern:\d(?=\.)")), Path("project"), CPU)
    config = load_config("project/config.yaml")
    assert config.data.groups.field == "group"  # of our COCO files, which keep them
    assert len(set(load_splits(config.data).train.dataset.groups.values())) > 3
    rows = json.loads((files / "instances_pool.json").read_text())["images"]
    Path("table.csv").write_text("file_name,group\n" + "".join(f"{row['file_name']},{row['id'] % 8}\n" for row in rows))
    start_project(pool(files, groups=group_rule("csv:table.csv")), Path("other"), CPU)
    assert images_of(load_config("other/config.yaml"))


@pytest.mark.parametrize("to", ["yolo", "voc"])
def test_other_formats_stay_what_they_are(files, to):
    from alloop.data.convert import convert_annotations

    convert_annotations(files / "instances_pool.json", Path("other"), "coco", to)
    start_project(pool(files, annotations=Path("other"), format=to), Path("project"), CPU)
    config = load_config("project/config.yaml")
    assert config.data.train.format == to
    assert sum(map(len, images_of(config))) == 24


def test_images_that_nobody_labeled_are_asked_of_people(files):
    tree = json.loads((files / "instances_pool.json").read_text())
    labeled = sorted(image["id"] for image in tree["images"])[:7]
    tree["unlabeled"] = [image["id"] for image in tree["images"] if image["id"] not in labeled]
    tree["annotations"] = [box for box in tree["annotations"] if box["image_id"] in labeled]
    (files / "instances_pool.json").write_text(json.dumps(tree))
    start_project(pool(files, test=(files / "instances_test.json", None)), Path("project"), CPU)
    config = load_config("project/config.yaml")
    assert config.oracle.name == "folder"
    assert config.loop.seed_set.number == 7
    assert [int(line) for line in Path("project/labeled.txt").read_text().split()] == labeled


def test_nothing_is_left_of_what_cannot_be_done(files, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for source, error, words in (
        (pool(files, images=None), ConfigError, r"images are not beside it; give their folder with --images"),
        (pool(files, images=Path("nowhere")), ConfigError, r"there is no nowhere"),
        (pool(files, test=(Path("gone.json"), None)), ConfigError, r"data\.test\.annotations: there is no gone\.json"),
        (pool(files, annotations=files / "images"), DataError, "expected a COCO JSON file"),
    ):
        with pytest.raises(error, match=words):
            start_project(source, Path("project"), CPU)
    tree = json.loads((files / "instances_pool.json").read_text())
    tree["unlabeled"] = [image["id"] for image in tree["images"]]
    (files / "instances_pool.json").write_text(json.dumps({**tree, "annotations": []}))
    with pytest.raises(DataError, match=r"named with --test"):
        start_project(pool(files), Path("project"), CPU)
    assert sorted(tmp_path.rglob("*")) == before


def test_nothing_is_overwritten(files):
    Path("project").mkdir()
    Path("project/notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"project: exists already"):
        start_project(pool(files), Path("project"), CPU)
    assert [path.name for path in Path("project").iterdir()] == ["notes.txt"]
