"""A data set counts, cuts and fingerprints what was read."""

from alloop.data.records import Box, Category, Records
from alloop.data.validation import validate
from alloop.values import ImageId, ImageRecord


def records(**changes):
    images = [ImageRecord(ImageId(4), "b.png", 20, 10), ImageRecord(ImageId(2), "a.png", 30, 30)]
    boxes = [
        Box(11, ImageId(2), 8, (1.0, 1.0, 5.0, 5.0)),
        Box(12, ImageId(4), 5, (15.0, 5.0, 50.0, 50.0)),
        Box(13, ImageId(2), 8, (2.0, 2.0, 6.0, 6.0), iscrowd=1),
        Box(14, ImageId(2), 5, (3.0, 3.0, 7.0, 7.0), ignore=1),
    ]
    parts = {"images": images, "categories": [Category(8, "cat"), Category(5, "dog")], "annotations": boxes}
    return Records(**{**parts, **changes})


def test_annotations_are_grouped_by_image_in_file_order():
    data = validate(records(), "x")
    assert list(data.annotations) == [4, 2]
    two = data.annotations[ImageId(2)]
    assert two.ids.tolist() == [11, 13, 14]
    assert two.labels.tolist() == [0, 0, 1]
    assert two.crowd.tolist() == [False, True, False]
    assert two.trainable.tolist() == [True, False, False], "neither a crowd nor an ignored box is trained on"
    assert two.boxes.tolist() == [[1, 1, 6, 6], [2, 2, 8, 8], [3, 3, 10, 10]]
    assert data.annotations[ImageId(4)].boxes.tolist() == [[15, 5, 20, 10]], "cut to its image"
    assert not two.boxes.flags.writeable


def test_counts_by_class_and_image():
    data = validate(records(), "x")
    assert data.boxes == 4
    assert data.class_counts() == [2, 2]
    assert data.class_images() == [1, 2]


def test_the_fingerprint_changes_with_everything_that_a_run_depends_on():
    base = records()
    moved = [*base.annotations[:3], Box(14, ImageId(2), 5, (3.5, 3.0, 7.0, 7.0), ignore=1)]
    others = [
        records(annotations=moved),
        records(annotations=base.annotations[:3]),
        records(categories=[Category(8, "cat"), Category(5, "cow")]),
        records(categories=[Category(8, "cat"), Category(5, "dog"), Category(6, "cow")]),
        records(images=[ImageRecord(ImageId(4), "c.png", 20, 10), base.images[1]]),
        records(images=[ImageRecord(ImageId(4), "b.png", 21, 10), base.images[1]]),
    ]
    prints = [validate(each, "x").fingerprint() for each in (base, *others)]
    assert len(set(prints)) == len(prints)
    assert validate(records(images=base.images[::-1]), "y").fingerprint() == prints[0], "the order of a list is free"


def test_a_side_of_exactly_one_pixel_survives_rounding_to_float32():
    """As float32, 1023.002 and 1024.002 are only 0.99994 apart."""
    image = [ImageRecord(ImageId(1), "a.png", 20000, 20000)]
    data = validate(records(images=image, annotations=[Box(1, ImageId(1), 8, (1023.002, 5.0, 1.0, 1.0))]), "x")
    x1, _, x2, _ = data.annotations[ImageId(1)].boxes[0]
    assert x2 - x1 < 1
    assert data.annotations[ImageId(1)].trainable.tolist() == [True]
