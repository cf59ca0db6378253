"""The labeling page: classes in its order, and the key of the image."""

from pathlib import Path

import pytest

from alloop.data.formats.label_studio_page import Page, label_config, parsed_page
from alloop.errors import DataError

PLACE = Path("label_config.xml")


def test_our_own_page_comes_back_with_its_classes_in_order():
    names = ["zebra", "a <b>", "ant", "#1"]
    assert parsed_page(label_config(names).encode(), PLACE) == Page(tuple(names), "image")


def test_the_labels_of_boxes_are_taken_by_their_alias_and_others_are_not():
    page = b"""<View><Image name="i" value="$photo"/><Choices><Choice value="good"/></Choices>
    <RectangleLabels><Label value="Zebra" alias="z"/><Label value="ant"/><Label value="$more"/></RectangleLabels>
    <BrushLabels><Label value="sky"/></BrushLabels><Labels><Label value="ant"/><Label value="cow"/></Labels></View>"""
    assert parsed_page(page, PLACE) == Page(("z", "ant", "cow"), "photo")


def test_a_page_of_several_images_has_no_key():
    assert parsed_page(b'<View><Image valueList="$photos"/></View>', PLACE) == Page()


@pytest.mark.parametrize("data", [b"", b"<View>", b'<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>'])
def test_a_page_that_is_no_xml_is_named(data):
    with pytest.raises(DataError, match=r"label_config\.xml"):
        parsed_page(data, PLACE)
