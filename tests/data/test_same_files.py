"""Image files of the same bytes in two splits."""

import itertools
import random

import pytest

from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.images import FolderImages
from alloop.data.same_files import same_files
from alloop.data.splits import Split
from alloop.errors import DataError
from alloop.values import ImageRecord


def split_of(folder, contents):
    """Write files and return a split of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    records = {k: ImageRecord(k, name, 8, 8) for k, name in enumerate(contents)}
    dataset = DataSet("d", records, GroupedAnnotations.of_mapping({}), ("a",), (1,))
    return Split(dataset, FolderImages(folder, records))


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_that_a_comparison_of_all_files_finds(tmp_path, seed):
    chance = random.Random(seed)
    pool = [bytes([chance.randrange(3)]) * chance.randrange(1, 4) for _ in range(30)]
    parts = {name: {f"{k}.png": chance.choice(pool) for k in range(10)} for name in ("train", "test", "reference")}
    found = same_files({name: split_of(tmp_path / name, own) for name, own in parts.items()})
    expected = {
        (one, a, other, b)
        for one, other in itertools.combinations(parts, 2)
        for a, b in itertools.product(parts[one], parts[other])
        if parts[one][a] == parts[other][b]
    }
    assert set(found) == expected
    assert len(found) == len(expected)


def test_files_of_one_length_in_one_split_are_not_read(tmp_path, monkeypatch):
    train, test = split_of(tmp_path / "a", {"1": b"xx", "2": b"xx"}), split_of(tmp_path / "b", {"1": b"y"})
    monkeypatch.setattr("alloop.data.same_files.sha256_of", lambda _: pytest.fail("a file was read"))
    assert same_files({"train": train, "test": test}) == []


def test_a_missing_image_is_named(tmp_path):
    splits = {"train": split_of(tmp_path, {"1.png": b"x"})}
    (tmp_path / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: image 0 cannot be read \(no such file\)"):
        same_files(splits)
