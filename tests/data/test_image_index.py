"""A name finds one image, or none, or is refused; it never finds another picture."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alloop.data.image_index import (
    Found,
    hidden_images,
    index_of_folder,
    index_of_records,
    is_hidden,
    match_names,
    visible_images,
)
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord


def records(*names):
    return [ImageRecord(ImageId(number), name, 40, 30) for number, name in enumerate(names)]


def found(name, *names):
    result = index_of_records(records(*names), "the pool").find(name)
    return None if result is None else result.name


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        ("a.jpg", ["a.jpg", "x/a.jpg"], "a.jpg"),
        ("x/a.jpg", ["a.jpg", "x/a.jpg"], "x/a.jpg"),
        ("./x/a.jpg", ["a.jpg", "x/a.jpg"], "x/a.jpg"),
        ("x//a.jpg", ["x/a.jpg"], "x/a.jpg"),
        ("x\\a.jpg", ["x/a.jpg", "y/a.jpg"], "x/a.jpg"),
        ("C:\\photos\\x\\a.jpg", ["x/a.jpg", "y/a.jpg"], "x/a.jpg"),
        ("a.jpg", ["x/a.jpg", "x/b.jpg"], "x/a.jpg"),
        ("x/a.jpg", ["a.jpg", "b.jpg"], "a.jpg"),
        ("/home/ann/x/a.jpg", ["x/a.jpg", "y/a.jpg"], "x/a.jpg"),
        ("z/x/a.jpg", ["a.jpg", "x/a.jpg"], "x/a.jpg"),
        ("x/1.jpg", ["y/1.jpg"], None),
        ("x/1.jpg", ["y/x1.jpg", "1.jpg.png"], None),
        ("A.JPG", ["a.jpg", "b.jpg"], "a.jpg"),
        ("a", ["x/a.jpg", "b.jpg"], "x/a.jpg"),
        ("x/a", ["x/a.jpg", "y/a.jpg"], "x/a.jpg"),
        ("a.v2", ["a.v2.jpg", "a.jpg"], "a.v2.jpg"),
        ("a.png", ["a.jpg"], None),
        ("a.jpg", ["a.jpg.png"], None),
        (unicodedata.normalize("NFD", "Straße_é.jpg"), ["x.jpg", "Straße_é.jpg"], "Straße_é.jpg"),
        ("é.jpg", [unicodedata.normalize("NFD", "é.jpg")], unicodedata.normalize("NFD", "é.jpg")),
        ("", ["a.jpg"], None),
        ("/", ["a.jpg"], None),
    ],
)
def test_the_rules(name, names, expected):
    assert found(name, *names) == expected


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("a.jpg", ["x/a.jpg", "y/a.jpg"]),
        ("x/1.jpg", ["1.jpg", "y/1.jpg"]),
        ("a", ["a.jpg", "a.png"]),
        ("A.jpg", ["a.JPG", "a.jpg"]),
    ],
)
def test_what_may_mean_two_images_is_refused_with_both(name, names):
    with pytest.raises(DataError) as error:
        found(name, *names)
    assert all(repr(other) in str(error.value) for other in names)


@pytest.mark.parametrize(
    ("name", "other", "difference"),
    [
        ("a.jpg", "a.jpg", ""),
        ("x\\a.jpg", "x/a.jpg", "Unicode form or its slashes"),
        ("a.jpg", "x/a.jpg", "folders"),
        ("A.jpg", "a.jpg", "upper and lower case"),
        ("a", "a.jpg", "no suffix"),
        ("a", "x/a.jpg", "no suffix and its folders differ"),
    ],
)
def test_the_ignored_difference_is_told(name, other, difference):
    result = index_of_records(records(other), "the pool").find(name)
    assert result.name == other
    assert difference in result.difference
    assert bool(result.difference) == (name != other)


PATHS = st.lists(st.sampled_from(["a", "b", "A"]), min_size=1, max_size=3).map(lambda parts: "/".join(parts) + ".jpg")


@given(PATHS, st.lists(PATHS, min_size=1, max_size=5, unique=True))
def test_an_image_that_is_found_is_the_only_one_whose_path_ends_like_the_name_or_the_other_way_round(name, names):
    """A slow, obvious second implementation: all pairs of paths, the strictest comparison first."""

    def ends(long, short):
        return f"/{long}".endswith(f"/{short}")

    expected = None
    for same in (str, str.lower):
        wanted = same(name)
        by_path = {other: same(other) for other in names}
        equal = [other for other, path in by_path.items() if path == wanted]
        longer = [other for other, path in by_path.items() if ends(path, wanted)]
        inside = [other for other, path in by_path.items() if ends(wanted, path)]
        longest = max((by_path[other] for other in inside), key=len, default=None)
        shorter = [other for other, path in by_path.items() if longest is not None and ends(path, longest)]
        expected = ([name] if name in names else None) or equal or longer or shorter
        if expected:
            break
    if len(expected) > 1:
        with pytest.raises(DataError, match="may mean"):
            found(name, *names)
    else:
        assert found(name, *names) == (expected[0] if expected else None)


def test_a_folder_is_walked_without_hidden_copies(tmp_path):
    names = ["a.jpg", "x/b.PNG", "x/._b.PNG", ".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "__MACOSX/x/a.jpg"]
    for name in [*names, "notes.txt", "x/c.jpg.txt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    assert visible_images(tmp_path) == ["a.jpg", "x/b.PNG"]
    assert hidden_images(tmp_path) == sorted(names[2:])
    assert [is_hidden(name) for name in ("a.b/c.jpg", "x/.a/c.jpg", "#recycle/c.jpg")] == [False, True, True]
    index = index_of_folder(tmp_path)
    assert index.find("a.jpg") == Found("a.jpg"), "a hidden copy makes no name ambiguous"
    assert index.find("folder.jpg") is None
    assert index_of_folder(tmp_path / "missing").find("a.jpg") is None


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "x/../a.jpg", "a\0.jpg", "x" * 5000])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "a.jpg").write_bytes(b"")
    assert index_of_folder(inner).find(name) is None


def test_sizes_are_those_that_are_displayed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "turned.jpg", exif=exif)
    assert index_of_folder(tmp_path).size_of("turned.jpg") == (30, 40)
    assert index_of_records(records("a.jpg"), "x").size_of("a.jpg") == (40, 30)


def test_a_name_that_finds_nothing_gets_a_proposal_only_where_one_is_alike():
    index = index_of_records(records("photo_0017.jpg", "b.jpg"), "the pool")
    assert index.near("photo_0017.png") == " (did you mean 'photo_0017.jpg'?)"
    assert index.near("foto_0017.jpg") == " (did you mean 'photo_0017.jpg'?)"
    assert index.near("a.jpg") == ""


def test_names_of_answers_match_or_are_listed_as_unknown():
    pool = records("day/a.jpg", "day/b.jpg")
    matches = match_names(["a.jpg", "day/b.jpg", "c.jpg"], pool, "answers.json")
    assert {name: image.image_id for name, image in matches.by_name.items()} == {"a.jpg": 0, "day/b.jpg": 1}
    assert matches.unknown == ("c.jpg",)
    assert [str(note) for note in matches.notes] == [
        "answers.json: 'a.jpg' is 'day/a.jpg': belongs to an image although its folders differ"
    ]
    stems = match_names(["day/a", "b"], pool, "labels")
    assert [note.count for note in stems.notes] == [1], "a missing suffix alone is no news, other folders are"
    with pytest.raises(DataError, match=r"answers\.json: 'a\.jpg' and 'day/a\.jpg' both mean day/a\.jpg"):
        match_names(["a.jpg", "day/a.jpg"], pool, "answers.json")
