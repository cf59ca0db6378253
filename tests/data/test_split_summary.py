"""What a split prints: every box and image is counted, and what is missing is named."""

import json

from alloop.data.groups import group_rule
from alloop.data.split_files import FileSplitting
from alloop.data.split_summary import split_lines, split_tables, split_tree
from alloop.tables import plain
from tests.support.annotations import write_json


def split_of(tmp_path, rule="folder", to="coco", **fields):
    """Split 40 images in ten folders: 30 with a cat, one of them with two dogs, the others empty."""
    images = [{"id": n, "file_name": f"{n % 10}/{n}.png", "width": 99, "height": 99} for n in range(40)]
    cats = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 9, 9]} for n in range(30)]
    dogs = [{"id": n, "image_id": 4, "category_id": 2, "bbox": [n, 1, 9, 9]} for n in (50, 51)]
    categories = [{"id": 1, "name": "cat [old]"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "never"}]
    tree = {"images": images, "annotations": cats + dogs, "categories": categories} | fields
    return FileSplitting(
        annotations=write_json(tmp_path / "all.json", tree),
        out=tmp_path / "out",
        shares={"train": 0.7, "reference": 0.1, "test": 0.2},
        from_="coco",
        to=to,
        groups=rule and group_rule(rule),
    ).run()


def test_a_row_counts_the_boxes_or_images_of_a_class_in_each_split(tmp_path):
    boxes, images = (plain(table).splitlines() for table in split_tables(split_of(tmp_path)))
    assert [line.split() for line in boxes] == [
        ["boxes", "all", "train", "reference", "test"],
        ["cat", "[old]", "30", "21", "(", "70.0%)", "3", "(", "10.0%)", "6", "(", "20.0%)"],
        ["dog", "2", "2", "(100.0%)", "0", "(", "0.0%)", "0", "(", "0.0%)"],
        ["never", "0", "0", "0", "0"],
        ["all", "classes", "32", "23", "(", "71.9%)", "3", "(", "9.4%)", "6", "(", "18.8%)"],
    ]
    assert images[2].split()[:3] == ["dog", "1", "1"]
    assert images[-2].split() == ["no", "object", "10", "7", "(", "70.0%)", "1", "(", "10.0%)", "2", "(", "20.0%)"]
    assert images[-1].split()[:3] == ["all,", "annotated", "40"]
    assert len({len(line) for line in boxes}) == 1


def test_lines_name_groups_unlabeled_images_and_what_a_split_lacks(tmp_path):
    split = split_of(tmp_path, unlabeled=[30, 31, 36])
    left = split.left_out
    where = f"{3 - left} are in train" + (f", {left} are left out: they would have" if left else "")
    first, second, third, fourth = split_lines(split)
    assert first == "10 groups, none in two splits; the largest, '9', has 10.0% of the images"
    assert second.startswith(f"3 images are not labeled: {where}")
    assert third == "1 class has no box in reference, because few groups have it: dog (1)"
    assert fourth == "1 class has no box in test, because few groups have it: dog (1)"


def test_lines_speak_of_images_where_there_are_no_groups(tmp_path):
    lines = split_lines(split_of(tmp_path, rule=None))
    assert [line.partition(", because")[2] for line in lines] == [" few images have it: dog (1)"] * 2


def test_masks_that_the_written_format_cannot_hold_are_counted(tmp_path):
    mask = {"segmentation": [[1, 1, 9, 1, 9, 9]]}
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [1, 1, 8, 8]} | mask for n in range(7)]
    (tmp_path / "voc").mkdir()
    assert not any("masks" in line for line in split_lines(split_of(tmp_path, annotations=boxes)))
    lines = split_lines(split_of(tmp_path / "voc", to="voc", annotations=boxes))
    assert "7 masks stay behind, the written format holds boxes" in lines


def test_json_has_the_same_counts(tmp_path):
    split = split_of(tmp_path)
    tree = json.loads(json.dumps(split_tree(split)))
    assert list(tree["splits"]) == ["train", "reference", "test"]
    for key in ("images", "boxes", "empty", "unlabeled"):
        assert tree["all"][key] == sum(part[key] for part in tree["splits"].values())
    assert tree["all"]["classes"]["cat [old]"] == {"boxes": 30, "images": 30}
    assert tree["splits"]["test"]["classes"]["dog"] == {"boxes": 0, "images": 0}
    assert (tree["groups"], tree["left_out"]) == (10, 0)
    assert tree["config"] == split.config
    assert len(tree["notes"]) == 3
