"""The commands about annotation files."""

import json

from tests.support.commands import call
from tests.support.photographs import data_set, photograph


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


def test_check_data_lists_leaks_and_ends_with_their_number(tmp_path):
    pool = data_set(tmp_path / "pool", {f"{row}.png": photograph(row) for row in range(4)})
    test = data_set(tmp_path / "test", {"0.png": photograph(0), "z.png": photograph(9)}, first_id=50)
    lines = call("check-data", pool, "--against", test, "--group", "pattern:\\w").output.splitlines()
    assert lines[-1] == "leaks: 1"
    assert f"{pool} (4 images) against {test} (2 images)" in lines
    tree = json.loads(call("check-data", pool, "--against", test, "--duplicates", "--format", "json", "--quiet").stdout)
    assert (tree["images"], tree["usable"], tree["leaks"], tree["duplicates"]) == (4, True, 1, [])
    assert tree["against"][0]["pairs"][0] == {"kind": "identical", "image_id": 1, "other_image_id": 50, "distance": 0}
    missing = call("check-data", pool, "--against", f"{test}={tmp_path / 'gone'}", code=2)
    assert "expected the folder of the images" in missing.output
    for option in ("--group", "--config"):
        assert f"{option}: compares two data sets" in call("check-data", pool, option, "folder", code=2).output
    assert "is no rule" in call("check-data", pool, "--against", test, "--group", "video", code=2).output


def test_check_data_compares_embeddings_of_a_config_and_of_a_run(tmp_path, finished):
    pool = data_set(tmp_path / "pool", {f"{row}.png": photograph(row) for row in range(3)})
    test = data_set(tmp_path / "test", {"x.jpg": photograph(1)}, first_id=50)
    for name in (finished / "c.yaml", finished / "run"):
        options = ("--against", test, "--config", name, "--cosine", "0", "--distance", "0", "--quiet")
        output = call("check-data", pool, *options).output
        assert "images with similar embeddings (cosine distance at most 0)" in output
        loose = ("--against", test, "--config", name, "--cosine", "2", "--quiet")
        assert call("check-data", pool, *loose).output.splitlines()[-1] == "leaks: 3"
    call("check-data", pool, "--against", test, "--config", tmp_path / "pool", code=2)
