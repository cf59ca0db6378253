"""The short way to a file ends where the long one ends, and refuses what it refuses."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.data.image_folder import ImageFolder, image_path
from alloop.errors import DamagedFileError, DataError
from alloop.files import sha256_of

PARTS = ["", ".", "..", "a", "b", "in", "out", "images", "gone", "loop", "x.png", "link.png", "leaf.png"]
ODD = ["x" * 300, "\0", "\\"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder with files, folders and links of every kind, and something outside."""
    top = tmp_path_factory.mktemp("top")
    root = top / "images"
    for folder in (root, root / "a", root / "a" / "b", top / "elsewhere"):
        folder.mkdir()
        (folder / "x.png").write_bytes(str(folder.relative_to(top)).encode())
    (root / "in").symlink_to(root / "a")
    (root / "out").symlink_to(top / "elsewhere")
    (root / "loop").symlink_to(root / "loop")
    (root / "a" / "link.png").symlink_to("../x.png")
    (root / "a" / "leaf.png").symlink_to(top / "elsewhere" / "x.png")
    (root / "a" / "gone").symlink_to("nowhere.png")
    (root / "a\\x.png").write_bytes(b"a name that other systems cut")
    os.mkfifo(root / "b")
    return root


def slowly(root, file_name):
    """The bytes of a file, the whole path being resolved each time; None where it is not there or must not be read."""
    try:
        path = image_path(root, file_name)
        return path.read_bytes() if path.is_file() else None
    except (DataError, OSError):
        return None


def read(folder, file_name):
    try:
        return folder.stored(1, file_name)
    except DataError:
        return None


@given(st.lists(st.lists(st.sampled_from(PARTS + ODD), min_size=1, max_size=5).map("/".join), max_size=6))
def test_any_name_reads_what_the_whole_path_reads(root, names):
    folder = ImageFolder(root)
    for name in names * 2:
        assert read(folder, name) == slowly(root, name), name


def test_both_ways_read_something_and_refuse_something(root):
    folder = ImageFolder(root)
    assert read(folder, "in/b/x.png") == b"images/a/b"
    assert read(folder, "a/link.png") == b"images"
    assert read(folder, "../images/x.png") == b"images", "a name that comes back leads inside"
    for name in (
        "out/x.png",
        "a/leaf.png",
        "../elsewhere/x.png",
        "/x.png",
        "/etc/hostname",
        "a\\x.png",
        "\0",
        "b",
        "a",
        "loop/x",
    ):
        with pytest.raises(DataError):
            folder.stored(1, name)


@pytest.mark.parametrize("name", ["out/x.png", "a/leaf.png", "../elsewhere/x.png", "a\\x.png"])
def test_a_name_that_leads_out_is_named_after_others_were_read(root, name):
    folder = ImageFolder(root)
    assert read(folder, "a/x.png") == b"images/a"
    with pytest.raises(DataError, match="file_name"):
        folder.stored(1, name)


def test_a_missing_file_is_named_with_its_image(root):
    with pytest.raises(DataError, match=r"a/none\.png: image 7 cannot be read \(no such file\)"):
        ImageFolder(root).stored(7, "a/none.png")
    with pytest.raises(DataError, match=r"image 7 cannot be read \(no such file\)"):
        ImageFolder(root).stored(7, "x.png/none.png")


def test_a_folder_that_is_made_later_as_a_link_that_leads_out_is_refused(tmp_path):
    root, outside = tmp_path / "images", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "x.png").write_bytes(b"outside")
    folder = ImageFolder(root)
    assert read(folder, "new/x.png") is None
    (root / "new").symlink_to(outside)
    with pytest.raises(DataError, match="leads out"):
        folder.stored(1, "new/x.png")


def test_what_is_found_is_the_file_behind_links(root):
    folder = ImageFolder(root)
    for name, target in (("a/x.png", "a/x.png"), ("in/x.png", "a/x.png"), ("a/link.png", "x.png")):
        path, status = folder.found(name)
        assert Path(path) == (root / target).resolve()
        assert status.st_ino == (root / target).stat().st_ino


def test_bytes_must_have_the_recorded_hash(root):
    folder = ImageFolder(root)
    assert folder.verified(1, "x.png", sha256_of(b"images")) == b"images"
    with pytest.raises(DamagedFileError, match="image 1 changed"):
        folder.verified(1, "x.png", sha256_of(b"other"))
    with pytest.raises(DamagedFileError, match="image 1 was there"):
        folder.verified(1, "none.png", sha256_of(b"images"))
    with pytest.raises(DamagedFileError, match="leads out"):
        folder.verified(1, "out/x.png", sha256_of(b"elsewhere"))
