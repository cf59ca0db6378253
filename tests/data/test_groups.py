"""Groups of images: each rule gives each image one group or says which image has none; no group is in two splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.config.blocks import DataConfig, GroupsConfig
from alloop.data.formats.table import annotation_format
from alloop.data.groups import group_rule, refuse_straddling, straddling, with_groups
from alloop.data.reading import read_annotations
from alloop.data.records import Records
from alloop.data.splits import load_splits
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import coco_tree, write_json

NAMES = ["a/v1_01.png", "a/v1_02.png", "b/v2_01.png"]


def records(names=NAMES):
    return Records([ImageRecord(ImageId(row), name, 10, 10) for row, name in enumerate(names, start=1)], [])


def groups(rule, names=NAMES):
    return list(with_groups(records(names), group_rule(rule), "pool").groups.values())


def fields(path, images):
    tree = coco_tree(annotations=[])
    tree["images"] = [{"id": 7 + row, "file_name": f"{row}.png", "width": 9, "height": 9} | own for row, own in images]
    return write_json(path, tree)


def test_each_rule_gives_each_image_its_group(tmp_path):
    assert groups("folder") == ["a", "a", "b"]
    assert groups("pattern:v\\d") == ["v1", "v1", "v2"]
    assert groups("pattern:/v(\\d)") == ["1", "1", "2"]
    assert groups("pattern:/v(1)|(b)/") == ["1", "1", "b"], "the part of an alternative that matched"
    table = tmp_path / "g.csv"
    table.write_text("\ufefffile_name,group,more\na/v1_01.png,x,1\nv1_02, y ,2\nb/v2_01.png,x,3\nelse.png,z,4\n")
    assert groups(f"csv:{table}") == ["x", "y", "x"]
    assert with_groups(records(), None, "pool").groups == {}


@pytest.mark.parametrize(("value", "group"), [("clip", "clip"), (12, "12")])
def test_a_field_of_coco_or_label_studio_is_read_with_the_annotations(tmp_path, value, group):
    rule = GroupsConfig(field="vidéo")
    coco = fields(tmp_path / "a.json", [(0, {"vidéo": value}), (1, {"vidéo": value, "group": "other"})])
    task = {"data": {"image": "a.png", "width": 9, "height": 9, "vidéo": value}, "annotations": [{"result": []}]}
    tasks = write_json(tmp_path / "tasks.json", [task])
    for path, name in ((coco, "coco"), (tasks, "label_studio")):
        read = read_annotations(path, annotation_format(name, ""), groups=rule)
        assert set(with_groups(read, rule, name).groups.values()) == {group}
        assert len(read.groups) == len(read.images)


def test_an_image_without_a_group_is_named(tmp_path):
    rule = GroupsConfig(field="video_id")
    path = fields(tmp_path / "a.json", [(0, {"video_id": 1}), (1, {"video_id": None}), (2, {})])
    with pytest.raises(DataError, match=r"p: 2 images have no group, first: '1.png' \(image 8\), .*COCO and Label"):
        with_groups(read_annotations(path, annotation_format("coco", ""), groups=rule), rule, "p")
    with pytest.raises(DataError, match=r"1 images have no group, first: 'b/v2_01.png' .*'v1' does not match"):
        groups("pattern:v1")
    (tmp_path / "g.csv").write_text("file_name,group\nv1_01.png,a\n")
    with pytest.raises(DataError, match=r"2 images .*add them to .*g\.csv"):
        groups(f"csv:{tmp_path / 'g.csv'}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,set\na,b\n", "row 2: expected a file name and a group under the head file_name,group"),
        ("file_name,group\na,\n", "row 2: expected"),
        ("file_name,group\na,x\na,y\n", "row 3: 'a' is in group 'x' already"),
        ("file_name,group\nsame.png,x\n", "s/same.png"),
    ],
)
def test_a_table_that_does_not_say_one_group_an_image_is_refused(tmp_path, text, message):
    (tmp_path / "g.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        groups(f"csv:{tmp_path / 'g.csv'}", ["r/same.png", "s/same.png"])


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / "g.csv").write_bytes(b"file_name,group\n\xff\xfe,1\n")
    for name in ("g.csv", "missing.csv"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as CSV"):
            groups(f"csv:{tmp_path / name}")


@pytest.mark.parametrize("text", ["", "fold", "field", "field:", "pattern:(", "csv", "folder:x"])
def test_a_word_that_is_no_rule_is_refused(text):
    with pytest.raises(ConfigError, match="--group"):
        group_rule(text)


@pytest.mark.parametrize("tree", [{}, {"folder": False}, {"folder": True, "field": "a"}, {"pattern": "["}])
def test_a_config_names_exactly_one_rule(tree):
    with pytest.raises(ValueError, match=r"give one of field, pattern, folder and csv|no regular expression"):
        GroupsConfig.model_validate(tree)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from("12345"), max_size=4)))
def test_straddling_groups_are_those_of_two_splits_by_counting(names):
    splits = {split: dict(enumerate(own)) for split, own in names.items()}
    slow = {g: [split for split, own in names.items() if g in own] for g in "12345"}
    assert straddling(splits) == {g: where for g, where in slow.items() if len(where) > 1}


def test_no_group_is_in_two_splits(tmp_path):
    train = fields(tmp_path / "a.json", [(0, {"video_id": 1}), (1, {"video_id": 2})])
    test = fields(tmp_path / "b.json", [(2, {"video_id": 2}), (3, {"video_id": 3})])
    tree = {"train": {"annotations": str(train)}, "test": {"annotations": str(test)}}
    plain = load_splits(DataConfig.model_validate(tree))
    assert plain.train.dataset.groups == {}
    with pytest.raises(DataError, match=r"data\.groups: 1 groups .*'2' in data\.train and data\.test; .*alloop split"):
        load_splits(DataConfig.model_validate(tree | {"groups": {"field": "video_id"}}))
    fields(test, [(2, {"video_id": 4}), (3, {"video_id": 3})])
    grouped = load_splits(DataConfig.model_validate(tree | {"groups": {"field": "video_id"}}))
    assert grouped.test.dataset.groups == {7 + 2: "4", 7 + 3: "3"}
    assert grouped.train.dataset.fingerprint() != plain.train.dataset.fingerprint(), "groups belong to the data"
    refuse_straddling({"data.train": grouped.train.dataset.groups, "data.test": grouped.test.dataset.groups})


def test_our_coco_files_keep_groups(tmp_path):
    coco = annotation_format("coco", "")
    (content,) = coco.files(with_groups(records(), group_rule("folder"), "p"), tmp_path / "o.json").values()
    (tmp_path / "o.json").write_bytes(content)
    assert dict(coco.read(tmp_path / "o.json").groups) == {1: "a", 2: "a", 3: "b"}
