"""Ids that stay, and the classes of labeled images."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from alloop.class_values import ClassLabel
from alloop.data.classification import labels as module
from alloop.data.classification.class_folders import read_class_folders
from alloop.data.classification.classified import ClassifiedImages
from alloop.data.classification.labels import ID_BITS, image_id_of, labels_of, records_of
from alloop.errors import DataError
from alloop.values import ImageId


def write(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (6, 4)).save(folder / name)


def test_an_image_keeps_its_id_when_others_come(tmp_path):
    write(tmp_path, "dog/a.png", "cat/b.png", "c.png")
    before = records_of(read_class_folders(tmp_path))
    write(tmp_path, "cat/a.png", "ape/x.png")
    after = records_of(read_class_folders(tmp_path))
    assert {(r.image_id, r.file_name) for r in before} < {(r.image_id, r.file_name) for r in after}
    assert {(record.width, record.height) for record in after} == {(6, 4)}


def test_ids_are_spread_and_fit_into_json():
    ids = {image_id_of(f"train/{number}") for number in range(20_000)}
    assert len(ids) == 20_000
    assert max(ids) < 2**ID_BITS <= 2**53
    assert max(Counter(i >> (ID_BITS - 3) for i in ids).values()) < 2_800  # an eighth is 2,500


def test_two_names_with_one_id_are_refused(monkeypatch):
    monkeypatch.setattr(module, "image_id_of", lambda _: ImageId(1))
    images = ClassifiedImages(("a", "b"), np.array([0, 0]), ("x",), np.zeros((2, 3, 3, 3), np.uint8))
    with pytest.raises(DataError, match="a and b have the same image id"):
        records_of(images)


def test_unlabeled_images_have_no_class():
    images = ClassifiedImages(("a", "b", "c"), np.array([1, -1, 0]), ("x", "y"), np.zeros((3, 3, 5, 3), np.uint8))
    records = records_of(images)
    labels, unlabeled = labels_of(images, records)
    assert [labels[record.image_id] for record in records[::2]] == [ClassLabel(1), ClassLabel(0)]
    assert unlabeled == {records[1].image_id}
    assert records[1].image_id not in labels
    assert list(labels) == [records[0].image_id, records[2].image_id]
    assert labels.class_images(3).tolist() == [1, 1, 0]
    assert (records[0].width, records[0].height) == (5, 3)
    assert len(labels[records[0].image_id]) == 1, "one label is paid for"
