"""VOC files as people rename, move and list them: which image each belongs to."""

import math

import pytest
from PIL import Image

from alloop.data.formats.format import Hints
from alloop.data.formats.voc import VOC, read_voc
from alloop.data.image_index import index_of_folder
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

SIZE = "<size><width>100</width><height>50</height></size>"
BOX = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"


def xml(filename="", size=SIZE, objects=f"<object><name>cat</name>{BOX}</object>"):
    return f"<annotation><filename>{filename}</filename>{size}{objects}</annotation>"


def data(tmp_path, files, images=()):
    for name, text in files.items():
        path = tmp_path / "Annotations" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name in images:
        path = tmp_path / "JPEGImages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 50)).save(path)
    return tmp_path


def names_of(records):
    return [image.file_name for image in records.images]


@pytest.mark.parametrize(
    ("file", "written", "images", "expected", "note"),
    [
        ("a.xml", "a.jpg", ["a.jpg"], "a.jpg", ""),
        ("x/a.xml", "a.jpg", ["x/a.jpg", "y/a.jpg"], "x/a.jpg", ""),
        ("a.xml", "a", ["a.jpg"], "a", ""),
        ("a.xml", "a.jpg", ["a.jpg", "a.png"], "a.jpg", ""),
        ("a.xml", "C:\\photos\\a.jpg", ["a.jpg"], "a.jpg", ""),
        ("a.xml", "old.jpg", ["a.jpg"], "a.jpg", "names no image"),
        ("a.xml", "", ["a.jpg"], "a.jpg", "is missing"),
        ("one.xml", "a.jpg", ["a.jpg"], "a.jpg", "differs from the name"),
        ("one.xml", "gone.jpg", ["a.jpg"], "gone.jpg", "differs from the name"),
    ],
)
def test_the_image_of_a_file(tmp_path, file, written, images, expected, note):
    records = read_voc(data(tmp_path, {file: xml(written)}, images))
    assert names_of(records) == [expected]
    assert note in "".join(n.rule for n in records.notes)
    assert bool(records.notes) == bool(note)


@pytest.mark.parametrize(
    ("files", "images", "words"),
    [
        ({"a.xml": "b.jpg"}, ["a.jpg", "b.jpg"], ["a.xml", "'b.jpg'", "'a.jpg'", "both images exist"]),
        ({"a.xml": "x.jpg", "b.xml": "x.jpg"}, ["x.jpg"], ["a.xml", "b.xml", "both of the image 'x.jpg'"]),
        ({"a.xml": "x.jpg", "b.xml": "x.jpg"}, [], ["a.xml", "b.xml", "both of the image 'x.jpg'"]),
        ({"a.xml": "b.jpg", "b.xml": "b.jpg"}, ["b.jpg"], ["a.xml", "b.xml", "both of the image 'b.jpg'"]),
        ({"a.xml": ""}, ["b.jpg"], ["a.xml", "<filename> is missing"]),
        ({"a.xml": ""}, [], ["a.xml", "<filename>"]),
    ],
)
def test_two_names_for_two_pictures_are_refused(tmp_path, files, images, words):
    with pytest.raises(DataError) as error:
        read_voc(data(tmp_path, {name: xml(written) for name, written in files.items()}, images))
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("size", ["", "<size/>", "<size><width>0</width><height>0</height></size>"])
def test_a_missing_size_comes_from_the_image(tmp_path, size):
    records = read_voc(data(tmp_path, {"a.xml": xml("a.jpg", size)}, ["a.jpg"]))
    assert (records.images[0].width, records.images[0].height) == (100, 50)
    assert "<size> is missing or 0" in records.notes[0].rule
    (tmp_path / "JPEGImages" / "a.jpg").rename(tmp_path / "elsewhere.jpg")
    with pytest.raises(DataError, match=r"a\.xml: <size>: 'a\.jpg' is not in"):
        read_voc(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere.jpg").rename(tmp_path / "photos" / "a.jpg")
    assert read_voc(tmp_path, Hints(index_of_folder(tmp_path / "photos"))).images[0].height == 50


LISTS = {
    "names": ("a\nmy image 1\n", ["a", "my image 1"]),
    "names that end like flags": ("my image 1\nb 1\n", ["my image 1", "b 1"]),
    "flags": ("a  1\nmy image 1 -1\nc  0\n", ["a", "c"]),
    "windows": ("\ufeffa\r\nc\r\n", ["a", "c"]),
    "suffixes": ("a.jpg\nJPEGImages/c.png\n", ["a", "c"]),
    "xml": ("a.xml\n", ["a"]),
}


@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_names_with_blanks_flags_and_suffixes(tmp_path, kind):
    text, expected = LISTS[kind]
    root = data(tmp_path, {f"{stem}.xml": xml(f"{stem}.jpg") for stem in ("a", "my image 1", "b 1", "c")})
    path = root / "ImageSets" / "Main" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert names_of(read_voc(path)) == [f"{stem}.jpg" for stem in expected]


def test_a_name_of_a_list_without_its_file_is_named(tmp_path):
    path = data(tmp_path, {"a.xml": xml("a.jpg")}) / "ImageSets" / "Main" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_text("a\nzebra 7\n")
    with pytest.raises(DataError, match=r"train\.txt: .*no file zebra 7\.xml"):
        read_voc(path)


def test_hidden_files_are_left_out_and_counted(tmp_path):
    files = {"a.xml": xml("a.jpg"), "._a.xml": "\x00", ".ipynb_checkpoints/a.xml": xml("a.jpg")}
    records = read_voc(data(tmp_path, files))
    assert names_of(records) == ["a.jpg"]
    assert records.notes[0].count == 2


def extent(objects, tmp_path):
    records = read_voc(data(tmp_path, {"a.xml": xml("a.jpg", objects=objects)}))
    return records.annotations[0].bbox, [note.rule for note in records.notes]


def test_turned_boxes_are_taken_by_their_extent(tmp_path):
    turned = f"<cx>50</cx><cy>25</cy><w>40</w><h>10</h><angle>{math.pi / 2}</angle>"
    bbox, rules = extent(f"<object><name>cat</name><robndbox>{turned}</robndbox></object>", tmp_path)
    assert bbox == pytest.approx((45, 5, 10, 40))
    assert rules == ["turned; its upright extent is taken"]
    attribute = "<attributes><attribute><name>rotation</name><value>{}</value></attribute></attributes>"
    bbox, rules = extent(f"<object><name>cat</name>{attribute.format(90.0)}{BOX}</object>", tmp_path)
    assert bbox == pytest.approx((15, 5, 10, 20))
    assert rules
    bbox, rules = extent(f"<object><name>cat</name>{attribute.format(0.0)}{BOX}</object>", tmp_path)
    assert (bbox, rules) == ((10, 10, 20, 10), [])


def test_blanks_around_a_class_are_noted_and_those_inside_are_kept(tmp_path):
    records = read_voc(data(tmp_path, {"a.xml": xml("a.jpg", objects=f"<object><name> red cat </name>{BOX}</object>")}))
    assert [category.name for category in records.categories] == ["red cat"]
    assert "blanks around <name>" in records.notes[0].rule
    assert records.classes_are_seen


def test_answers_are_found_with_and_without_their_folders(tmp_path):
    pool = [ImageRecord(ImageId(k), name, 100, 50) for k, name in enumerate(["day/a.jpg", "day/b.jpg"])]
    for name in ("a.xml", "zzz.xml"):
        (tmp_path / name).write_text(xml(name))
    given = VOC.submissions(tmp_path, pool, ["cat"])
    assert {image_id: len(value.submissions[0].boxes) for image_id, value in given.by_image.items()} == {0: 1}
    assert given.unknown == ("zzz",)
    assert "although it has no suffix and its folders differ" in given.notes[0].rule
