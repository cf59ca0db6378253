"""A name that a format cannot carry is refused before anything is written."""

import pytest

from alloop.data.convert import convert_annotations
from alloop.errors import DataError
from tests.support.annotations import coco_tree, write_json


@pytest.mark.parametrize("to", ["voc", "yolo", "cvat"])
@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        ("images", "a\x07.png", r"image 7: file_name 'a\\x07.png' holds the character '\\x07'"),
        ("images", "a\x00.png", r"image 7: file_name 'a\\x00.png' holds the character '\\x00'"),
        ("categories", "c\nat", r"class 0: name 'c\\nat' holds the character '\\n'"),
        ("categories", "c\ufffeat", "class 0: name"),
    ],
)
def test_control_characters(tmp_path, to, where, name, words):
    tree = coco_tree()
    tree[where][0]["file_name" if where == "images" else "name"] = name
    path = write_json(tmp_path / "a.json", tree)
    with pytest.raises(DataError) as error:
        convert_annotations(path, tmp_path / "out", "coco", to)
    assert words in str(error.value).replace("\\\\", "\\") or words.replace("\\\\", "\\") in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["voc", "yolo", "cvat", "label_studio", "coco"])
@pytest.mark.parametrize("name", ["no", "010", "traffic light", "a&b <c>", "é", "1e3", "null", "猫", "a: b", "#x"])
def test_ordinary_and_odd_names_come_through_every_format(tmp_path, to, name):
    tree = coco_tree(categories=[{"id": 0, "name": name}, {"id": 90, "name": "other"}])
    path = write_json(tmp_path / "a.json", tree)
    convert_annotations(path, tmp_path / "out", "coco", to)
    convert_annotations(tmp_path / "out", tmp_path / "back.json", to, "coco")
    assert f'"name":"{name}"' in (tmp_path / "back.json").read_text(encoding="utf-8")
