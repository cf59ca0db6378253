"""The check for leaks on files: formats, image folders, groups, embeddings, and what is unreadable."""

import numpy as np
import pytest

from alloop.data.groups import group_rule
from alloop.data.leak_check import LeakOptions, check_leaks, other_of
from alloop.errors import ConfigError, DataError
from alloop.progress import Progress
from tests.support.photographs import data_set, photograph

QUIET = Progress(quiet=True)


@pytest.fixture
def two(tmp_path):
    """A pool and a test set that share one file and one picture in another encoding."""
    own = data_set(tmp_path / "pool", {f"v{row % 2}/{row}.png": photograph(row) for row in range(6)})
    pictures = {"v7/0.png": photograph(0), "v8/b.jpg": photograph(1), "v9/c.png": photograph(40)}
    return own, data_set(tmp_path / "test", pictures, first_id=101)


def test_identical_and_near_images_of_another_set_are_counted(two):
    own, other = two
    report = check_leaks(own, None, LeakOptions([str(other)]), QUIET)
    assert report.leaks == report.tree["leaks"] == 2
    assert report.tree["against"][0]["counts"] == {
        "identical": 1,
        "near-identical": 1,
        "same image id": 0,
        "same file name": 1,
    }
    assert "v0/0.png (image 1) and v7/0.png (image 101)" in "\n".join(report.lines)


def test_several_sets_count_an_image_once(two):
    own, other = two
    assert check_leaks(own, None, LeakOptions([str(other), f"{other}={other.parent}"]), QUIET).leaks == 2
    assert check_leaks(own, None, LeakOptions([str(own)]), QUIET).leaks == 6
    assert check_leaks(own, own.parent, LeakOptions([f"{other}={other.parent}"]), QUIET).leaks == 2, "its own folder"


def test_groups_and_embeddings_are_compared_where_they_are_given(two):
    own, other = two
    rule = group_rule("pattern:v\\d")
    report = check_leaks(own, None, LeakOptions([str(own)], groups=rule, embed=one_embedding), QUIET)
    assert report.tree["against"][0]["counts"]["same group"] == 6
    assert report.tree["against"][0]["counts"]["similar embedding"] == 6
    with pytest.raises(DataError, match="have no group"):
        check_leaks(own, None, LeakOptions([str(other)], groups=group_rule("pattern:v[0-7]")), QUIET)


def one_embedding(_source, image_ids, _name):
    return np.ones((len(image_ids), 4))


def test_duplicates_inside_one_set_are_listed(tmp_path):
    path = data_set(tmp_path, {"a.png": photograph(1), "b.jpg": photograph(1), "c.png": photograph(2)})
    report = check_leaks(path, None, LeakOptions(duplicates=True), QUIET)
    assert report.tree["duplicates"] == [[1, 2]]
    assert (report.leaks, report.tree["against"]) == (0, [])


def test_what_cannot_be_read_is_told_and_a_missing_folder_refused(two, tmp_path):
    own, other = two
    (own.parent / "v0" / "2.png").write_bytes(b"damaged")
    report = check_leaks(own, None, LeakOptions([str(other)], embed=one_embedding), QUIET)
    assert len(report.tree["unreadable"]) == 1
    assert "2.png (image" in report.tree["unreadable"][0]
    with pytest.raises(ConfigError, match=r"gone: expected the folder of the images"):
        check_leaks(own, None, LeakOptions([f"{other}={tmp_path / 'gone'}"]), QUIET)


def test_an_other_is_split_at_its_last_equals_sign_unless_it_exists(tmp_path):
    (tmp_path / "a=b").mkdir()
    assert other_of(str(tmp_path / "a=b")) == (tmp_path / "a=b", None)
    path, folder = other_of(f"{tmp_path / 'a=b'}={tmp_path}")
    assert (path, folder) == (tmp_path / "a=b", tmp_path)
