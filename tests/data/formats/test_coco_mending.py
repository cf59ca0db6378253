"""COCO files as exporters write them: what can be read without doubt is mended and counted, the rest is explained."""

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alloop.data.formats.coco import read_coco
from alloop.data.formats.format import Hints
from alloop.data.image_index import index_of_folder
from alloop.data.validation import validate
from alloop.errors import DataError
from tests.support.annotations import write_json


def tree(**changes):
    """One image of 200 x 100 pixels with one box; `changes` replace fields, as in `image_width=None`."""
    whole = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 100}],
        "annotations": [{"id": 4, "image_id": 1, "category_id": 2, "bbox": [10, 20, 30, 40]}],
        "categories": [{"id": 2, "name": "cat"}],
    }
    for name, value in changes.items():
        kind, _, key = name.partition("_")
        row = whole[{"image": "images", "box": "annotations", "category": "categories"}[kind]][0]
        row.pop(key, None) if value is ... else row.update({key: value})
    return whole


def read(tmp_path, whole, hints=None):
    path = write_json(tmp_path / "a.json", whole)
    return read_coco(path, hints) if hints else read_coco(path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"box_iscrowd": None}, "iscrowd is null, false or empty; taken as 0"),
        ({"box_iscrowd": False}, "iscrowd is null, false or empty; taken as 0"),
        ({"box_iscrowd": ""}, "iscrowd is null, false or empty; taken as 0"),
        ({"box_iscrowd": 0.0}, "iscrowd is a whole number with a point"),
        ({"box_ignore": None}, "ignore is null, false or empty; taken as 0"),
        ({"box_area": False}, "area is null, false or empty; taken as missing"),
        ({"box_area": ""}, "area is null, false or empty; taken as missing"),
        ({"box_segmentation": None}, None),
        ({"box_segmentation": False}, None),
        ({"box_segmentation": ...}, None),
        ({"box_iscrowd": ...}, None),
        ({"box_id": ...}, "id is missing; numbered"),
        ({"box_id": None}, "id is missing; numbered"),
        ({"box_id": "x-17"}, "id is a text; all are numbered in the order of the file"),
        ({"box_id": 4.0}, "a whole number with a point; taken as a whole number"),
        ({"box_image_id": "1"}, "a text of digits; taken as a number"),
        ({"box_image_id": 1.0, "box_category_id": 2.0}, "a whole number with a point; taken as a whole number"),
        ({"image_id": "1", "box_image_id": "1"}, "id is a text of digits; taken as a number"),
        ({"image_id": "1"}, "id is a text of digits; taken as a number"),
        ({"image_id": "a.jpg", "box_image_id": "a.jpg"}, "id is a text; all are numbered in the order of the file"),
        ({"category_id": "cat", "box_category_id": "cat"}, "id is a text; all are numbered in the order of the file"),
        ({"category_name": 10}, "name is a number; taken as text"),
        ({"category_name": " cat "}, "blanks around the name were removed"),
        ({"image_width": 200.0, "image_height": 100.0}, "width is a whole number with a point"),
    ],
)
def test_what_exporters_write_is_read_and_noted(tmp_path, changes, rule):
    dataset = validate(read(tmp_path, tree(**changes)), "a.json")
    assert dataset.boxes == 1
    (truth,) = dataset.annotations.values()
    assert truth.boxes.tolist() == [[10, 20, 40, 60]]
    assert (truth.trainable.tolist(), truth.crowd.tolist()) == ([True], [False])
    assert dataset.class_names == ("10" if changes.get("category_name") == 10 else "cat",)
    told = [str(problem) for problem in dataset.problems]
    assert told == [] if rule is None else any(rule in line for line in told)


def test_true_marks_a_crowd(tmp_path):
    dataset = validate(read(tmp_path, tree(box_iscrowd=True)), "a.json")
    assert dataset.annotations[1].crowd.tolist() == [True]
    assert "iscrowd is true; taken as 1" in str(dataset.problems[0])


def test_an_id_of_0_is_an_id_also_where_another_value_is_mended(tmp_path):
    changes = {"image_id": 0, "box_image_id": 0, "box_id": 0, "category_id": 0, "box_category_id": 0}
    records = read(tmp_path, tree(**changes, box_iscrowd=None))
    box = records.annotations[0]
    assert (records.images[0].image_id, box.image_id, box.id, box.category_id) == (0, 0, 0, 0)


@pytest.mark.parametrize("missing", [..., None, 0, -1, False, ""])
def test_a_missing_size_comes_from_the_image(tmp_path, missing):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    whole = tree(image_width=missing, image_height=missing)
    records = read(tmp_path, whole, Hints(index_of_folder(tmp_path)))
    assert (records.images[0].width, records.images[0].height) == (200, 100)
    if missing not in (0, -1):
        with pytest.raises(DataError, match=r"a\.json: images: id 1: the size of 'a\.jpg' is unknown.*--images"):
            read(tmp_path, whole)


def test_one_missing_side_is_no_missing_size(tmp_path):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"images\[0\], id 1: .*width"):
        read(tmp_path, tree(image_width=None), Hints(index_of_folder(tmp_path)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"box_bbox": ["10", "20", "30", "40"]}, r"annotations\[0\], id 4: .*float"),
        ({"box_bbox": None}, r"annotations\[0\], id 4: .*bbox"),
        ({"box_image_id": None}, r"annotations\[0\], id 4: .*image_id"),
        ({"box_image_id": "b.jpg"}, r"annotations\[0\], id 4: .*image_id"),
        ({"image_id": "b.jpg"}, "annotations: id 4: image_id 1 is not among the ids that the file lists"),
        ({"image_id": "b.jpg", "box_image_id": "c.jpg"}, r"id 4: image_id 'c\.jpg' is not among the ids"),
        ({"image_id": True}, r"images\[0\], id True"),
        ({"image_id": 1.5}, r"images\[0\], id 1.5"),
        ({"category_name": None}, r"categories\[0\], id 2: .*name"),
        ({"category_name": True}, r"categories\[0\], id 2: .*name"),
        ({"box_iscrowd": 2}, "iscrowd: expected 0 or 1, found 2"),
        ({"box_iscrowd": "no"}, r"annotations\[0\], id 4: .*iscrowd"),
    ],
)
def test_what_leaves_a_doubt_is_refused_by_id(tmp_path, changes, words):
    with pytest.raises(DataError, match=words):
        validate(read(tmp_path, tree(**changes)), "a.json")


IDS = st.one_of(
    st.integers(0, 20), st.integers(0, 20).map(str), st.integers(0, 20).map(lambda n: f"0{n}"), st.text("ab")
)


@given(st.lists(IDS, min_size=1, max_size=6))
def test_ids_stay_different_and_every_box_stays_on_its_image_or_the_file_is_refused(tmp_path_factory, ids):
    """The box of the image of row k is k pixels wide, so that it can be known again."""
    whole = tree()
    whole["images"] = [{"id": v, "file_name": f"{k}.jpg", "width": 50, "height": 50} for k, v in enumerate(ids)]
    whole["annotations"] = [
        {"id": k, "image_id": v, "category_id": 2, "bbox": [1, 1, k + 2, 9]} for k, v in enumerate(ids)
    ]
    try:
        records = read(tmp_path_factory.mktemp("x"), whole)
        validate(records, "a.json")
    except DataError:
        texts = [str(value).strip() for value in ids]
        same = len({int(text) if text.isdecimal() else text for text in texts}) < len(ids)
        assert same or "" in texts, "ids that differ are no reason to refuse a file"
        return
    names = {image.image_id: image.file_name for image in records.images}
    assert len(names) == len(ids)
    assert [names[box.image_id] for box in records.annotations] == [f"{k:.0f}.jpg" for k in range(len(ids))]
    assert [box.bbox[2] for box in records.annotations] == [k + 2 for k in range(len(ids))]


@pytest.mark.parametrize(
    ("encode", "note"),
    [
        (lambda text: codecs.BOM_UTF8 + text.encode(), "UTF-8"),
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"), "UTF-16"),
    ],
)
def test_a_byte_order_mark_is_noted(tmp_path, encode, note):
    (tmp_path / "a.json").write_bytes(encode(json.dumps(tree(category_name="Katze é"), ensure_ascii=False)))
    records = read_coco(tmp_path / "a.json")
    assert records.categories[0].name == "Katze é"
    assert note in records.notes[0].rule
    (tmp_path / "a.json").write_bytes(codecs.BOM_UTF16_LE + b"{")
    with pytest.raises(DataError, match="byte order mark"):
        read_coco(tmp_path / "a.json")


def test_other_files_are_named_for_what_they_are(tmp_path):
    results = [{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]
    with pytest.raises(DataError, match="a list of detections"):
        read(tmp_path, results)
    with pytest.raises(DataError, match="key 'categories' is missing"):
        read(tmp_path, {"images": [], "annotations": []})
    with pytest.raises(DataError, match="found a list"):
        read(tmp_path, [1])


def test_a_file_without_annotations_lists_images_that_are_not_labeled(tmp_path):
    whole = tree()
    del whole["annotations"]
    records = read(tmp_path, whole)
    assert records.unlabeled == {1}
    assert "no image is labeled" in records.notes[0].rule
    assert read(tmp_path, tree() | {"annotations": []}).unlabeled == frozenset(), "an empty list: the image is empty"


def test_unlabeled_images_are_a_list_of_ours_and_may_not_have_a_box(tmp_path):
    whole = tree() | {"unlabeled": [9]}
    whole["images"].append({"id": 9, "file_name": "b.jpg", "width": 20, "height": 10})
    dataset = validate(read(tmp_path, whole), "a.json")
    assert dataset.unlabeled == {9}
    with pytest.raises(DataError, match="annotations: id 4: image 1 is listed as unlabeled and has this box"):
        validate(read(tmp_path, whole | {"unlabeled": [1]}), "a.json")
