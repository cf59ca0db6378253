"""Hugging Face imagefolder: what others write is read, and what cannot be read is named."""

import json

import pytest
from PIL import Image

from alloop.data.formats.format import Hints
from alloop.data.formats.hf import HF, read_hf
from alloop.data.image_index import index_of_folder
from alloop.errors import DataError
from alloop.testing.formats import example_records


def written(folder, *rows, classes=""):
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if classes:
        (folder / "classes.txt").write_text(classes)
    return folder


def row(name="a.png", **more):
    return {"file_name": name, "image_id": 5, "width": 40, "height": 30, **more}


OBJECTS = {"bbox": [[1, 2, 10, 20.5]], "categories": [1]}


def test_the_rows_are_those_of_the_documentation_of_hugging_face(tmp_path):
    files = HF.files(example_records(), tmp_path)
    rows = [json.loads(line) for line in files[tmp_path / "metadata.jsonl"].splitlines()]
    assert [row["file_name"] for row in rows] == ["day/a.jpg", "b.png", "day/empty.jpg"]
    assert rows[0]["objects"]["bbox"] == [[10.5, 20.25, 30.0, 40.5], [1.0, 2.0, 7.75, 9.0]]
    assert rows[0]["objects"]["categories"] == [0, 1]
    assert rows[1]["objects"] | {"bbox": 0} == {"bbox": 0, "categories": [0, 1], "iscrowd": [0, 1], "ignore": [1, 0]}
    assert all(column == [] for column in rows[2]["objects"].values())
    assert files[tmp_path / "classes.txt"] == b"zebra\nant\nunused\n"


def test_a_minimal_file_of_others_takes_sizes_from_the_images_and_names_from_its_rows(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    objects = {"bbox": [[1, 2, 3, 4], [0, 0, 9, 9]], "categories": ["dog", "cat"]}
    written(tmp_path, {"file_name": "a.png", "objects": objects, "license": "CC0"})
    records = read_hf(tmp_path, Hints(index_of_folder(tmp_path)))
    (image,) = records.images
    assert (image.image_id, image.width, image.height) == (1, 64, 48)
    assert [category.name for category in records.categories] == ["cat", "dog"]
    assert [box.category_id for box in records.annotations] == [1, 0]
    assert records.classes_are_seen
    assert [note.rule for note in records.notes] == ["width or height is missing; taken from the image"]


def test_numbers_are_named_by_the_file_beside_them_before_the_given_classes(tmp_path):
    written(tmp_path, row(objects=OBJECTS), classes="ant\nbee\n")
    records = read_hf(tmp_path, Hints(classes=("bee", "ant")))
    assert [category.name for category in records.categories] == ["ant", "bee"]
    (tmp_path / "classes.txt").unlink()
    assert [c.name for c in read_hf(tmp_path, Hints(classes=("bee", "ant"))).categories] == ["bee", "ant"]


def test_a_row_without_objects_is_not_labeled_and_one_with_empty_lists_is_empty(tmp_path):
    empty = row("b.png", image_id=9, objects={"bbox": [], "categories": []})
    records = read_hf(written(tmp_path, row(), empty, row("c.png", image_id=10, objects=None), classes="ant\n"))
    assert records.unlabeled == {5, 10}
    assert [note.count for note in records.notes] == [2]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(objects=OBJECTS)], r"line 1: objects: class 1 has no name; classes.txt beside the file names 1 classes"),
        ([row(objects=OBJECTS | {"categories": [-1]})], "class -1 has no name"),
        ([row(objects=OBJECTS | {"categories": []})], r"for each of 1 boxes, found \[0, 1, 1\]"),
        ([row(objects=OBJECTS | {"iscrowd": [0, 0]})], r"for each of 1 boxes, found \[1, 2, 1\]"),
        ([row(objects={"bbox": [[1, 2, 3]], "categories": [0]})], "line 1: expected an object with 'file_name'"),
        ([row(), {"image_id": 3}], "line 2: expected an object with 'file_name'"),
        ([{"file_name": "a.png"}], r"line 1: the size of 'a.png' is unknown"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path, rows, words):
    with pytest.raises(DataError, match=words):
        read_hf(written(tmp_path, *rows, classes="ant\n"))


def test_a_damaged_list_of_classes_is_named(tmp_path):
    written(tmp_path, row(objects=OBJECTS))
    (tmp_path / "classes.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"classes\.txt: expected the names of the classes"):
        read_hf(tmp_path)
