"""What is found out about the images of a run when it begins, and what the user is told."""

from dataclasses import replace

import pytest

from alloop.config import parse_config
from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.images import FolderImages
from alloop.data.splits import Split
from alloop.errors import DataError
from alloop.ledger.facts import RunFacts, SplitLeaks
from alloop.ledger.perceptual_hashes import record_perceptual_hashes, recorded_perceptual_hashes
from alloop.ledger.store import open_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.split_leaks import checked_images, leak_warnings
from alloop.progress import Progress
from alloop.values import ImageRecord
from strategies import TABLE
from tests.support import small_tree
from tests.support.photographs import data_set, photograph

QUIET = Progress(quiet=True)


def split(folder, pictures, first_id):
    data_set(folder, pictures, first_id)
    images = {row: ImageRecord(row, name, 160, 120) for row, name in enumerate(pictures, start=first_id)}
    return Split(DataSet(folder.name, images, GroupedAnnotations.of_mapping({}), (), ()), FolderImages(folder, images))


@pytest.fixture
def splits(tmp_path):
    """Test repeats picture 1 of the pool in the same bytes and picture 2 in others; reference repeats one of test."""
    pool = split(tmp_path / "train", {f"{row}.png": photograph(row) for row in range(8)}, 1)
    test = split(tmp_path / "test", {"1.png": photograph(1), "two.jpg": photograph(2), "x.png": photograph(50)}, 101)
    reference = split(tmp_path / "reference", {"y.png": photograph(50), "z.png": photograph(51)}, 201)
    return {"train": pool, "test": test, "reference": reference}


def test_each_two_splits_are_compared_and_the_pool_keeps_its_hashes(splits):
    found = checked_images(splits, QUIET)
    shared = {(leaks.split, leaks.of): (leaks.identical, leaks.near) for leaks in found.leaks}
    assert shared == {("test", "train"): (1, 1), ("reference", "train"): (0, 0), ("reference", "test"): (1, 0)}
    assert sorted(found.perceptual) == list(range(1, 9))
    assert [row[:2] for row in found.hashed["test"]] == [(101, "1.png"), (102, "two.jpg"), (103, "x.png")]


def test_images_under_32_pixels_are_too_small_to_look_alike(splits):
    """A perceptual hash is made of 32 x 32 pixels, and tells little of an image that has fewer."""
    small = {
        name: replace(
            one, dataset=replace(one.dataset, images={i: ImageRecord(i, r.file_name, 31, 120) for i, r in items})
        )
        for name, one in splits.items()
        if (items := list(one.dataset.images.items()))
    }
    found = checked_images(small, QUIET)
    shared = {(leaks.split, leaks.of): (leaks.identical, leaks.near) for leaks in found.leaks}
    assert shared == {("test", "train"): (1, 0), ("reference", "train"): (0, 0), ("reference", "test"): (1, 0)}
    assert not found.perceptual


def test_each_leak_is_a_sentence_with_its_harm_and_none_says_nothing(splits):
    trained_on = "AP is measured on what is trained on"
    assert leak_warnings(checked_images(splits, QUIET).leaks) == [
        f"1 of 3 test images are also in the pool: {trained_on}",
        f"1 of 3 test images look like images of the pool, such as two.jpg and 2.png: {trained_on}",
        "1 of 2 reference images are also in the test set: the strategy looks at what AP is measured on",
    ]
    assert leak_warnings((SplitLeaks("test", "train", 3, 0, 0, 8, 0),)) == []


def test_an_image_that_cannot_be_decoded_is_counted_and_one_that_is_gone_refused(splits, tmp_path):
    (tmp_path / "train" / "3.png").write_bytes(b"damaged")
    found = checked_images(splits, QUIET)
    assert [leaks.undecoded for leaks in found.leaks] == [1, 1, 0]
    assert 4 not in found.perceptual
    (tmp_path / "test" / "x.png").unlink()
    with pytest.raises(DataError, match=r"x\.png: image 103 cannot be read"):
        checked_images(splits, QUIET)


def test_what_was_found_is_recorded_and_read_again(splits, tmp_path):
    found = checked_images(splits, QUIET)
    facts = RunFacts(config="{}", leaks=found.leaks)
    assert RunFacts.from_rows(facts.rows()) == facts
    assert RunFacts.from_rows({"config": "{}"}).leaks is None
    (tmp_path / "run").mkdir()
    with open_ledger(tmp_path / "run") as ledger:
        assert recorded_perceptual_hashes(ledger) == {}
        record_perceptual_hashes(ledger, found.perceptual | {9: 0, 10: 2**64 - 1})
        assert recorded_perceptual_hashes(ledger) == found.perceptual | {9: 0, 10: 2**64 - 1}


def test_a_run_keeps_its_fingerprints_and_digits_in_its_cache_folder(tmp_path, monkeypatch):
    class ReachedError(Exception):
        pass

    folders = []

    def spy(*_, kept, **__):
        folders.append(kept.folder)
        raise ReachedError

    monkeypatch.setattr("alloop.loop.split_leaks.fingerprints", spy)
    for cache in (None, tmp_path / "study" / "cache"):
        with pytest.raises(ReachedError):
            run_experiment(parse_config(small_tree()), tmp_path / "run", TABLE, cache=cache)
        assert len([*folders[-1].glob("??/*")]) == 3, "the three splits of the digits"
    assert folders == [tmp_path / "run" / "cache", tmp_path / "study" / "cache"]
