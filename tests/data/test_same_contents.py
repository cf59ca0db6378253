"""What was written is compared in every respect with what was to be written."""

import dataclasses

import msgspec
import numpy as np
import pytest

from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.same_contents import difference
from alloop.data.validation import validate
from alloop.testing.formats import example_records
from alloop.values import Annotations, ImageId


def dataset(**columns):
    return validate(msgspec.structs.replace(example_records(), **columns), "test")


def with_boxes(change):
    """The example with one box changed."""
    boxes = [msgspec.structs.replace(box) for box in example_records().annotations]
    change(boxes)
    return dataset(annotations=boxes)


def with_box(row, **fields):
    def change(boxes):
        for key, value in fields.items():
            setattr(boxes[row], key, value)

    return with_boxes(change)


def images_with(row, **fields):
    images = example_records().images
    images[row] = msgspec.structs.replace(images[row], **fields)
    return dataset(images=images)


def test_the_same_contents_have_no_difference():
    assert difference(dataset(), dataset(), masks=True) == ""


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (dataset(categories=example_records().categories[::-1]), "the classes are ['unused', 'ant', 'zebra'] instead"),
        (dataset(unlabeled=frozenset({31})), "1 images are unlabeled instead of 0"),
        (dataset(images=example_records().images[:2]), "there are 2 images instead of 3"),
        (images_with(2, width=51), "image 31 is ImageRecord(image_id=31, file_name='day/empty.jpg', width=51"),
        (images_with(2, file_name="x.jpg"), "image 31 is"),
        (images_with(2, image_id=32), "image 31 is None instead of"),
        (with_box(1, bbox=(1.02, 2.0, 7.75, 9.0)), "image 70 (day/a.jpg) has 2 boxes, 2 were to be written; it lacks"),
        (with_box(1, category_id=5), "it lacks the box [1.0, 2.0, 8.75, 11.0] of class number 1"),
        (with_box(1, image_id=12), "image 70 (day/a.jpg) has 1 boxes, 2 were to be written"),
        (with_box(2, ignore=0), "image 12 (b.png) has 2 boxes"),
        (with_box(3, iscrowd=0), "image 12 (b.png) has 2 boxes"),
        (with_box(0, segmentation=msgspec.Raw(b"null")), "image 70 (day/a.jpg) has 2 boxes"),
        (
            with_boxes(lambda boxes: boxes.append(msgspec.structs.replace(boxes[0], id=9))),
            "it lacks a box that was not",
        ),
    ],
)
def test_any_difference_is_named(found, words):
    assert words in difference(dataset(), found, masks=True)


def test_masks_are_compared_only_where_they_are_kept():
    assert difference(dataset(), with_box(0, segmentation=msgspec.Raw(b"null")), masks=False) == ""


def test_rounding_another_order_and_other_ids_are_no_difference():
    def shuffled(boxes):
        boxes.reverse()
        for number, box in enumerate(boxes, start=100):
            box.id, box.bbox = number, tuple(value + 0.004 for value in box.bbox)

    assert difference(dataset(), with_boxes(shuffled), masks=True) == ""


def test_a_box_counts_once():
    """Two equal boxes are not found twice in one."""
    two = Annotations(np.array([[0, 0, 9, 9], [0, 0, 9, 9]]), [0, 0], [False] * 2, [True] * 2)
    other = Annotations(np.array([[0, 0, 9, 9], [1, 1, 9, 9]]), [0, 0], [False] * 2, [True] * 2)
    whole = dataset()
    truths = {image_id: whole.annotations[image_id] for image_id in whole.annotations}
    before, after = (
        dataclasses.replace(whole, annotations=GroupedAnnotations.of_mapping(truths | {ImageId(31): annotations}))
        for annotations in (two, other)
    )
    assert "image 31 (day/empty.jpg) has 2 boxes, 2 were to be written; it lacks the box" in difference(
        before, after, masks=True
    )


def test_whether_a_box_of_about_a_pixel_is_trained_on_may_change_by_rounding():
    thin, wide = with_box(1, bbox=(1.0, 2.0, 1.0, 9.0)), with_box(1, bbox=(1.0, 2.0, 0.9999, 9.0))
    assert thin.annotations.trainable.tolist() != with_box(1, bbox=(1.0, 2.0, 0.99, 9.0)).annotations.trainable.tolist()
    assert difference(thin, wide, masks=True) == ""
