"""The columns of a data set say what the objects that are cut from them say, image by image."""

import hashlib
from types import MappingProxyType

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.annotation_json import annotation_hashes, annotation_sha256
from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.records import Box, Category, Records
from alloop.data.summary import untrained_boxes, verdict_line
from alloop.data.validation import validate
from alloop.geometry.boxes import wide_enough
from alloop.values import ImageId, ImageRecord

CLASSES = [Category(9, "cat"), Category(0, "dog"), Category(4, "cow")]
MASKS = [msgspec.Raw(b"null"), msgspec.Raw(b"[]"), msgspec.Raw(b"[[1,1,5,1,5,5]]"), msgspec.Raw(b'{"size":[9,9]}')]


@st.composite
def records(draw):
    """Records with empty images, crowds, ignored, thin and clipped boxes, and some masks."""
    ids = draw(st.lists(st.integers(-5, 40), unique=True, max_size=8))
    images = [ImageRecord(ImageId(i), f"{i}.png", 30 + i, 50) for i in ids]
    side = st.floats(-3, 60, width=32)
    boxes = st.builds(
        Box,
        st.integers(0, 99),
        st.sampled_from(ids or [0]),
        st.sampled_from([9, 0, 4]),
        st.tuples(side, side, st.floats(0, 40), st.floats(0, 40)),
        iscrowd=st.sampled_from([0, 0, 1]),
        segmentation=st.sampled_from(MASKS if draw(st.booleans()) else MASKS[:2]),
        ignore=st.sampled_from([0, 0, 1]),
    )
    labeled = draw(st.lists(boxes, max_size=20 if ids else 0))
    free = frozenset(ids) - {box.image_id for box in labeled}
    unlabeled = frozenset(draw(st.sets(st.sampled_from(sorted(free))))) if free else frozenset()
    return Records(images, CLASSES, labeled, unlabeled, groups=dict.fromkeys(ids[:1], "g"))


def data_set(own):
    """The same as a data set; whether random boxes look like fractions or corners is not asked."""
    return DataSet(
        name="x",
        images={image.image_id: image for image in own.images},
        annotations=GroupedAnnotations.of_records(own),
        class_names=tuple(category.name for category in own.categories),
        category_ids=tuple(category.id for category in own.categories),
        unlabeled=own.unlabeled,
        groups=own.groups,
    )


def old_fingerprint(data):
    """The definition that runs of version 0.1.0 recorded, image by image."""
    digest = hashlib.sha256()
    digest.update(repr((data.class_names, data.category_ids)).encode())
    for image_id in sorted(data.images):
        image, truth = data.images[image_id], data.annotations[image_id]
        digest.update(repr((image_id, image.file_name, image.width, image.height)).encode())
        digest.update(annotation_sha256(truth).encode())
    if data.unlabeled:
        digest.update(repr(sorted(data.unlabeled)).encode())
    if data.groups:
        digest.update(repr(sorted(data.groups.items())).encode())
    return digest.hexdigest()


@given(records())
def test_counts_of_columns_are_counts_of_objects(own):
    data = data_set(own)
    truths = list(data.annotations.values())
    labels = [truth.labels.tolist() for truth in truths]
    assert data.boxes == sum(map(len, truths))
    assert data.annotations.counts.tolist() == [len(truth) for truth in truths]
    assert data.class_counts() == [sum(each.count(label) for each in labels) for label in range(3)]
    assert data.class_images() == [sum(label in each for each in labels) for label in range(3)]
    assert {type(number) for number in (*data.class_counts(), *data.class_images())} == {int}


@given(records())
def test_the_fingerprint_is_the_one_that_older_versions_recorded(own):
    data = data_set(own)
    assert data.fingerprint() == old_fingerprint(data)
    ids = sorted(data.images)[::-1]
    assert list(annotation_hashes(data.annotations, ids)) == [annotation_sha256(data.annotations[i]) for i in ids]


@given(records())
def test_what_is_said_about_boxes_equals_a_count_of_objects(own):
    data = data_set(own)
    truths = list(data.annotations.values())
    trained = sum(int(truth.trainable.sum()) for truth in truths)
    crowd = sum(int(truth.crowd.sum()) for truth in truths)
    rest = [~t.trainable & ~t.crowd for t in truths]
    thin = sum(int((r & ~wide_enough(t.boxes)).sum()) for r, t in zip(rest, truths, strict=True))
    ignored = sum(int(r.sum()) for r in rest) - thin
    assert f"{trained} are trained on (" in verdict_line(data)
    assert f"{crowd} are crowd, {thin + ignored} are skipped" in verdict_line(data)
    said = untrained_boxes(data)
    assert bool(said) == bool(crowd + thin + ignored)
    assert all(f"wide or high {thin}; crowd {crowd}; ignore {ignored}" in line for line in said)


@given(records())
def test_a_mapping_of_objects_makes_the_same_columns(own):
    data = data_set(own)
    again = GroupedAnnotations.of_mapping(MappingProxyType(dict(data.annotations)))
    assert list(again) == list(data.annotations)
    assert again.masks == data.annotations.masks
    for image_id, truth in data.annotations.items():
        for name in ("boxes", "labels", "crowd", "trainable", "ids"):
            column, other = np.asarray(truth.__getattribute__(name)), again[image_id].__getattribute__(name)
            assert column.dtype == other.dtype
            assert column.shape == other.shape
            assert column.tolist() == other.tolist()
        assert truth.masks == again[image_id].masks
        assert len(truth.masks) == len(truth)


@given(records())
def test_the_first_image_that_lacks_a_mask_is_found(own):
    data = data_set(own)
    lacking = [
        image_id
        for image_id, truth in data.annotations.items()
        if any(mask is None for mask, trainable in zip(truth.masks, truth.trainable, strict=True) if trainable)
    ]
    assert data.annotations.lacking_mask() == (lacking[0] if lacking else None)


def test_asking_for_an_image_makes_no_object_of_it():
    image = [ImageRecord(ImageId(1), "a.png", 20, 20)]
    data = validate(Records(image, CLASSES, [Box(1, ImageId(1), 9, (1.0, 1.0, 5.0, 5.0))]), "x")
    assert 1 in data.annotations
    assert 2 not in data.annotations
    assert "x" not in data.annotations


def test_annotations_without_ids_keep_none():
    image = [ImageRecord(ImageId(1), "a.png", 20, 20)]
    data = validate(Records(image, CLASSES, [Box(1, ImageId(1), 9, (1.0, 1.0, 5.0, 5.0))]), "x")
    truth = data.annotations[ImageId(1)]
    bare = type(truth)(truth.boxes, truth.labels, truth.crowd, truth.trainable)
    grouped = GroupedAnnotations.of_mapping({ImageId(2): bare, ImageId(1): truth})
    assert [len(grouped[i].ids) for i in (2, 1)] == [0, 0], "only where every box has one"
    assert grouped[ImageId(1)].boxes.tolist() == truth.boxes.tolist()


def test_boxes_that_are_converted_part_by_part_are_those_that_are_converted_at_once(monkeypatch):
    images = [ImageRecord(ImageId(i), f"{i}.png", 10 + 7 * i, 40 - 5 * i) for i in range(4)]
    boxes = [Box(row, ImageId(3 * row % 4), 9, (float(row), 2.0, 60.0, 60.0)) for row in range(9)]
    own = Records(images, CLASSES, boxes)
    whole = GroupedAnnotations.of_records(own).boxes
    monkeypatch.setattr("alloop.data.grouped_annotations._AT_ONCE", 2)
    assert GroupedAnnotations.of_records(own).boxes.tolist() == whole.tolist()
