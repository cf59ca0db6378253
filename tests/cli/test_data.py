"""The commands about annotation files."""

import json

from tests.support.commands import call


def test_check_data_counts_and_names_problems(tmp_path):
    tree = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 10, "height": 10},
            {"id": 2, "file_name": "b.png", "width": 10, "height": 10},
        ],
        "categories": [{"id": 4, "name": "cat"}],
        "annotations": [
            {"id": 8, "image_id": 1, "category_id": 4, "bbox": [1, 1, 5, 5]},
            {"id": 9, "image_id": 1, "category_id": 4, "bbox": [1, 1, 0, 5]},
        ],
    }
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    result = call("check-data", path)
    for words in (
        "images 2, boxes 2",
        "images without a box 1",
        "cat (id 4): 2",
        "1 skipped",
        "id 9",
        "usable: yes; all 2 boxes are paid for, 1 are trained on",
    ):
        assert words in result.output
    assert "a.png" in call("check-data", path, "--images", tmp_path, code=1).output
    tree["annotations"][0]["image_id"] = 77
    path.write_text(json.dumps(tree))
    result = call("check-data", path, code=1)
    assert "image_id 77" in result.output


def test_convert_refuses_to_overwrite_and_says_what_it_wrote(tmp_path):
    call("export-digits", tmp_path / "d", "--set", "pool=5", "--set", "reference=1", "--set", "test=1")
    source = tmp_path / "d" / "instances_pool.json"
    result = call("convert", source, tmp_path / "voc", "--from", "coco", "--to", "voc")
    assert "5 images" in result.output
    call("convert", source, tmp_path / "voc", "--from", "coco", "--to", "voc", code=1)
    call("check-data", tmp_path / "voc")
