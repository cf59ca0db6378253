"""All splits have the same classes in the same order, whichever annotation came first."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.config.blocks import DataConfig
from alloop.data.common_classes import class_names_of, with_common_classes
from alloop.data.records import Box, Category, Records
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord

NAMES = ["ant", "bee", "cat", "dog"]


def records(names, drawn=(), *, seen=False):
    """One image with a box of each class that `drawn` names."""
    categories = [Category(10 * number, name) for number, name in enumerate(names)]
    ids = {category.name: category.id for category in categories}
    boxes = [Box(k, ImageId(1), ids[name], (1.0, 2.0, 30.0, 40.0)) for k, name in enumerate(drawn)]
    return Records([ImageRecord(ImageId(1), "a.jpg", 100, 80)], categories, boxes, classes_are_seen=seen)


def names_of(splits):
    return [[category.name for category in split.categories] for split in splits.values()]


def drawn_names(split):
    return [split.category_names()[box.category_id] for box in split.annotations]


@given(st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=1, max_size=3))
def test_seen_classes_are_the_union_in_one_order_and_every_box_keeps_its_name(lists):
    splits = {str(number): records(names, names, seen=True) for number, names in enumerate(lists)}
    common = with_common_classes(splits)
    assert names_of(common) == [sorted(set(itertools.chain(*lists)))] * len(lists)
    assert [drawn_names(split) for split in common.values()] == lists
    for split in common.values():
        ids = [category.id for category in split.categories]
        assert len(set(ids)) == len(ids)


def test_a_declared_list_rules_over_classes_that_are_only_seen():
    common = with_common_classes({"train": records(["dog", "ant"], ["dog"], seen=True), "test": records(NAMES)})
    assert names_of(common) == [NAMES, NAMES]
    assert drawn_names(common["train"]) == ["dog"]


def test_a_class_that_the_test_split_lacks_is_one_without_a_box():
    common = with_common_classes({"train": records(["ant", "bee"], ["ant"]), "test": records(["bee"], ["bee"])})
    assert names_of(common) == [["ant", "bee"]] * 2
    assert drawn_names(common["test"]) == ["bee"]
    assert "no class 'ant' here" in common["test"].notes[0].rule
    assert common["train"].notes == ()


def test_a_class_beyond_the_list_is_left_out_without_a_box_and_refused_with_one():
    train = records(["ant"], ["ant"])
    common = with_common_classes({"train": train, "data.test": records(["ant", "fish"], ["ant"])})
    assert names_of(common) == [["ant"]] * 2
    assert "class 'fish' has no box" in common["data.test"].notes[0].rule
    with pytest.raises(DataError, match=r"data\.test: annotations: id 1: class 'fish' .*data\.classes"):
        with_common_classes({"train": train, "data.test": records(["ant", "fish"], ["ant", "fish"])})


def test_the_config_rules_over_all_files():
    given_names = ["dog", "ant", "bee"]
    splits = {"train": records(["ant", "bee"], ["bee"]), "test": records(["dog"], ["dog"], seen=True)}
    common = with_common_classes(splits, given_names)
    assert names_of(common) == [given_names] * 2
    assert [drawn_names(split) for split in common.values()] == [["bee"], ["dog"]]


def data_config(classes):
    return DataConfig.model_validate({"train": {"annotations": "a"}, "test": {"annotations": "b"}, "classes": classes})


def test_names_come_from_a_list_or_from_a_file_of_lines(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbfno\r\ntraffic light\r\n010\r\n\r\n")
    assert class_names_of(data_config(str(tmp_path / "c.txt"))) == ("no", "traffic light", "010")
    assert class_names_of(data_config(["b", "a"])) == ("b", "a")
    assert class_names_of(data_config(None)) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [("a\na\n", "name 2, 'a', stands twice"), ("a\n\nb\n", "name 2, '', is blank"), ("", "names no class")],
)
def test_a_list_that_shifts_labels_is_refused(tmp_path, text, words):
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(ConfigError, match=rf"data\.classes: {words}"):
        class_names_of(data_config(str(tmp_path / "c.txt")))
    with pytest.raises(ConfigError, match="cannot be read"):
        class_names_of(data_config(str(tmp_path / "missing.txt")))
