"""From a data block to three splits: classes must agree, one split may serve twice, formats find their images."""

import pytest

from alloop.config.blocks import DataConfig
from alloop.data.convert import convert_annotations
from alloop.data.splits import load_splits
from alloop.errors import ConfigError
from tests.support.annotations import coco_tree, write_json


def config(train, **others):
    blocks = {"train": train, **others}
    return DataConfig.model_validate({key: {"annotations": str(path)} for key, path in blocks.items()})


def test_a_single_split_serves_as_reference_and_test(tmp_path):
    pool = write_json(tmp_path / "a.json", coco_tree())
    splits = load_splits(config(pool, test=pool))
    assert splits.shared
    assert splits.reference is splits.test
    assert splits.train.images.root == tmp_path, "images lie beside the file by default"
    assert not load_splits(config(pool, test=pool, reference=pool)).shared
    assert splits.fingerprint() == " ".join([splits.train.dataset.fingerprint()] * 3)


@pytest.mark.parametrize("name", ["reference", "test"])
def test_the_same_classes_in_another_order_are_matched_by_name_and_noted(tmp_path, name):
    pool = write_json(tmp_path / "a.json", coco_tree())
    swapped = write_json(tmp_path / "b.json", coco_tree(categories=coco_tree()["categories"][::-1]))
    splits = load_splits(config(pool, **{name: swapped}))
    assert splits.test.dataset.class_names == splits.train.dataset.class_names == ("cat", "dog")
    for image_id, truth in splits.train.dataset.annotations.items():
        assert truth.labels.tolist() == splits.test.dataset.annotations[image_id].labels.tolist()
    assert "matched by name" in str(splits.test.dataset.problems[0])


def test_an_unlabeled_image_is_left_out_or_empty_or_kept_for_people(tmp_path):
    tree = coco_tree(annotations=[]) | {"unlabeled": [0]}
    ids = [image["id"] for image in tree["images"]]
    pool = write_json(tmp_path / "a.json", tree)
    blocks = config(pool, test=pool)
    splits = load_splits(blocks)
    assert sorted(splits.train.dataset.images) == sorted(splits.test.dataset.images) == sorted(set(ids) - {0})
    assert "not labeled; left out" in str(splits.test.dataset.problems[0])
    kept = load_splits(blocks, for_people=True)
    assert (kept.train.dataset.unlabeled, len(kept.train.dataset.images)) == ({0}, len(ids))
    assert 0 not in kept.test.dataset.images
    block = {"annotations": str(pool), "unlabeled": "empty"}
    empty = load_splits(DataConfig.model_validate({"train": block, "test": block}))
    assert len(empty.train.dataset.images) == len(empty.test.dataset.images) == len(ids)
    assert "taken as an image without an object" in str(empty.train.dataset.problems[0])


def test_an_unknown_format_is_refused_before_any_file_is_read(tmp_path):
    train, test = {"annotations": "missing.json"}, {"annotations": "missing.json", "format": "yollo"}
    with pytest.raises(ConfigError, match=r"data\.test\.format: 'yollo' .*did you mean 'yolo'"):
        load_splits(DataConfig.model_validate({"train": train, "test": test}))


def test_the_format_says_where_the_images_lie(tmp_path):
    pool = write_json(tmp_path / "a.json", coco_tree())
    convert_annotations(pool, tmp_path / "yolo", "coco", "yolo")
    tree = {"annotations": str(tmp_path / "yolo"), "format": "yolo"}
    splits = load_splits(DataConfig.model_validate({"train": tree, "test": tree}))
    assert splits.train.images.root == tmp_path / "yolo" / "images"


@pytest.mark.parametrize(
    ("tree", "words"),
    [({"pol": 12}, r"data\.digit_scenes\.pol: unknown parameter \(did you mean 'pool'"), ({"pool": 0}, "found 0")],
)
def test_wrong_parameters_of_the_embedded_set_are_named(tree, words):
    with pytest.raises(ConfigError, match=words):
        load_splits(DataConfig(digit_scenes=tree))


def test_the_embedded_set_brings_its_own_splits():
    splits = load_splits(DataConfig(digit_scenes={"pool": 3, "reference": 2, "test": 4}))
    assert [len(split.dataset.images) for split in (splits.train, splits.reference, splits.test)] == [3, 2, 4]
    assert not splits.shared


def test_a_split_may_count_the_boxes_that_are_marked_ignore(tmp_path):
    marked = coco_tree()["annotations"][0] | {"ignore": 1}
    pool = write_json(tmp_path / "a.json", coco_tree(annotations=[marked, *coco_tree()["annotations"][1:]]))
    block = {"annotations": str(pool)}
    splits = load_splits(DataConfig.model_validate({"train": block | {"ignored": "counted"}, "test": block}))
    counted, skipped = splits.train.dataset, splits.test.dataset
    assert counted.boxes == skipped.boxes, "both are paid for"
    assert counted.annotations.trainable.sum() == skipped.annotations.trainable.sum() + 1
    assert "marked ignore; counted as any other box" in str(counted.problems[0])
    assert counted.fingerprint() != skipped.fingerprint()
