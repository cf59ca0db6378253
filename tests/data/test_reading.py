"""Records get the file names and the classes that are really there; what is done is noted, what is unclear refused."""

import pytest
from PIL import Image

from alloop.data.formats.coco import COCO
from alloop.data.image_index import index_of_folder, index_of_records
from alloop.data.reading import labeled_only, read_annotations, unlabeled_as_empty, with_classes, with_file_names
from alloop.data.records import Box, Category, Records
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import coco_tree, write_json


def records(*names, unlabeled=()):
    images = [ImageRecord(ImageId(number), name, 40, 30) for number, name in enumerate(names)]
    boxes = [Box(0, ImageId(0), 5, (1.0, 2.0, 9.0, 9.0))]
    return Records(images, [Category(5, "cat"), Category(7, "dog")], boxes, frozenset(map(ImageId, unlabeled)))


def folder(*names):
    return index_of_records([ImageRecord(ImageId(0), name, 40, 30) for name in names], "photos")


def test_names_become_those_of_the_folder_and_that_is_noted():
    read = with_file_names(records("a.jpg", "x/b.jpg", "gone.jpg"), folder("x/a.jpg", "x/b.jpg"), "a.json")
    assert [image.file_name for image in read.images] == ["x/a.jpg", "x/b.jpg", "gone.jpg"]
    assert [str(note) for note in read.notes] == [
        "image 0, 'a.jpg' is 'x/a.jpg': the image was found although its folders differ"
    ]
    assert read.annotations == records("a.jpg").annotations


def test_two_images_never_become_one_file():
    with pytest.raises(DataError, match=r"images 0 \('x/1\.jpg'\) and 1 \('y/1\.jpg'\) both mean the file '1\.jpg'"):
        with_file_names(records("x/1.jpg", "y/1.jpg"), folder("1.jpg"), "a.json")
    with pytest.raises(DataError, match=r"'1\.jpg' may mean 'x/1\.jpg', 'y/1\.jpg'"):
        with_file_names(records("1.jpg"), folder("x/1.jpg", "y/1.jpg"), "a.json")


def test_classes_are_matched_by_name_and_every_box_keeps_its_class():
    read = with_classes(records("a.jpg"), ["emu", "dog", "cat"], "a.json")
    assert [category.name for category in read.categories] == ["emu", "dog", "cat"]
    assert read.category_names()[read.annotations[0].category_id] == "cat"
    assert [note.rule.split(";")[-1].strip() for note in read.notes] == [
        "taken as classes without a box",
        "they were matched by name",
    ]
    same = records("a.jpg")
    assert with_classes(same, ["cat", "dog"], "a.json") is same


def test_a_class_with_a_box_is_never_dropped():
    assert [category.name for category in with_classes(records("a.jpg"), ["cat"], "a.json").categories] == ["cat"]
    with pytest.raises(DataError, match=r"a\.json: annotations: id 0: class 'cat' is not among the classes"):
        with_classes(records("a.jpg"), ["dog"], "a.json")


def test_unlabeled_images_are_left_out_or_taken_as_empty_and_counted():
    read = records("a.jpg", "b.jpg", "c.jpg", unlabeled=[1, 2])
    left = labeled_only(read, "a.json")
    assert ([image.file_name for image in left.images], left.unlabeled) == (["a.jpg"], frozenset())
    assert str(left.notes[0]) == "a.json: image 1 (b.jpg): not labeled; left out (2 times)"
    empty = unlabeled_as_empty(read, "a.json")
    assert (len(empty.images), empty.unlabeled, empty.notes[0].count) == (3, frozenset(), 2)


def test_given_classes_and_images_reach_the_reader(tmp_path):
    Image.new("RGB", (100, 80)).save(tmp_path / "a.png")
    tree = coco_tree(images=[{"id": 7, "file_name": "a.png"}])
    tree["annotations"] = [box for box in tree["annotations"] if box["image_id"] == 7]
    path = write_json(tmp_path / "a.json", tree)
    read = read_annotations(path, COCO, index_of_folder(tmp_path), ["dog", "cat", "emu"])
    assert (read.images[0].width, read.images[0].height) == (100, 80)
    assert [category.name for category in read.categories] == ["dog", "cat", "emu"]
    with pytest.raises(
        DataError, match=r"images: id 7: the size of 'a\.png' is unknown; name its folder, with --images"
    ):
        read_annotations(path, COCO)
