"""Records stand as they were read: grouped by image, floats in every box, one name for an image."""

import msgspec
import pytest

from alloop.data.formats.coco import read_coco
from alloop.data.records import Box, Category, Records
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import coco_tree, write_json


def test_boxes_are_grouped_by_image_in_file_order_with_empty_images(tmp_path):
    records = read_coco(write_json(tmp_path / "a.json", coco_tree()))
    grouped = records.boxes_by_image()
    assert list(grouped) == [7, 0]
    assert [box.id for box in grouped[7]] == [0, 5]
    assert grouped[0] == []


def test_a_box_of_an_image_that_is_not_listed_is_grouped_too():
    box = Box(1, ImageId(9), 0, (0.0, 0.0, 1.0, 1.0))
    assert Records([], [], [box]).boxes_by_image() == {9: [box]}


def test_category_names_are_found_by_id():
    assert Records([], [Category(90, "dog"), Category(0, "cat")]).category_names() == {90: "dog", 0: "cat"}


def test_whole_numbers_of_a_file_are_floats(tmp_path):
    box = read_coco(write_json(tmp_path / "a.json", coco_tree())).annotations[0]
    assert [type(number) for number in box.bbox] == [float] * 4


def test_an_image_is_called_id_in_files_and_cannot_be_changed():
    image = ImageRecord(ImageId(3), "a.png", 5, 4)
    text = msgspec.json.encode(image)
    assert text == b'{"id":3,"file_name":"a.png","width":5,"height":4}'
    assert msgspec.json.decode(text, type=ImageRecord) == image
    assert len({image, ImageRecord(ImageId(3), "a.png", 5, 4)}) == 1
    with pytest.raises(AttributeError):
        image.width = 9
