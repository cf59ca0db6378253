"""The sidecar knows what was written, so that nothing is lost in silence."""

import json

import pytest

from alloop.data.convert import convert_annotations
from alloop.data.formats.table import annotation_format
from alloop.errors import DataError
from tests.support.annotations import coco_tree, write_json


@pytest.mark.parametrize(
    ("kind", "name"), [("cvat", "annotations.xml"), ("label_studio", "tasks.json"), ("hf", "metadata.jsonl")]
)
def test_an_image_that_the_file_has_lost_is_not_an_empty_image(tmp_path, kind, name):
    write_json(tmp_path / "a.json", coco_tree())
    convert_annotations(tmp_path / "a.json", tmp_path / "out", "coco", kind)
    path = tmp_path / "out" / name
    if kind == "cvat":
        head, _, tail = path.read_text().partition('<image id="0"')
        path.write_text(head + tail.partition("</image>")[2])
    elif kind == "hf":
        path.write_text(path.read_text().splitlines()[0])
    else:
        path.write_text(json.dumps(json.loads(path.read_text())[:1]))
    with pytest.raises(DataError, match=r"image 0 \(b\.png\) is listed in alloop\.json"):
        annotation_format(kind, "test").read(tmp_path / "out")


def test_an_image_whose_objects_were_lost_is_not_unlabeled(tmp_path):
    write_json(tmp_path / "a.json", coco_tree())
    convert_annotations(tmp_path / "a.json", tmp_path / "out", "coco", "hf")
    path = tmp_path / "out" / "metadata.jsonl"
    path.write_text(path.read_text().replace('"objects"', '"object"', 1))
    with pytest.raises(DataError, match=r"line 1: image 7 is listed in alloop\.json as labeled, but has no 'objects'"):
        annotation_format("hf", "test").read(tmp_path / "out")


@pytest.mark.parametrize("text", ["", "[]", '{"images": []}', '{"images": [], "categories": 3}'])
def test_a_damaged_sidecar_is_named(tmp_path, text):
    write_json(tmp_path / "a.json", coco_tree())
    convert_annotations(tmp_path / "a.json", tmp_path / "out", "coco", "yolo")
    (tmp_path / "out" / "alloop.json").write_text(text)
    with pytest.raises(DataError, match=r"alloop\.json: written by alloop, but it cannot be read"):
        annotation_format("yolo", "test").read(tmp_path / "out")
