"""YOLO data sets as tools lay them out: where texts, images and class names lie, and what belongs to what."""

import pytest
from PIL import Image

from alloop.data.formats.format import Hints
from alloop.data.formats.yolo import YOLO, read_yolo
from alloop.data.image_index import index_of_folder
from alloop.data.importing import import_project
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord

LINE = "0 0.5 0.5 0.2 0.4\n"


def write(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if content is None:
        Image.new("RGB", (100, 50)).save(path)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


LAYOUTS = {
    "labels beside images": (["labels/a.txt"], ["images/a.jpg"], "data.yaml", "."),
    "one split of it": (["labels/train/a.txt"], ["images/train/a.jpg"], "data.yaml", "labels/train"),
    "split first": (["train/labels/a.txt"], ["train/images/a.jpg"], "data.yaml", "train"),
    "two folders up": (["v1/train/labels/a.txt"], ["v1/train/images/a.jpg"], "data.yaml", "v1/train"),
    "labels folder of a split": (["train/labels/a.txt"], ["train/images/a.jpg"], "data.yaml", "train/labels"),
    "together": (["a.txt"], ["a.jpg"], "classes.txt", "."),
    "darknet": (["obj_train_data/a.txt"], ["obj_train_data/a.jpg"], "obj.names", "."),
    "inside labels": (["labels/a.txt"], ["images/a.jpg"], "labels/classes.txt", "."),
    "the yaml itself": (["labels/a.txt"], ["images/a.jpg"], "data.yaml", "data.yaml"),
    "another yaml": (["labels/a.txt"], ["images/a.jpg"], "my_set.yml", "."),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(tmp_path, layout):
    labels, images, names, given = LAYOUTS[layout]
    for name in labels:
        write(tmp_path / name, LINE)
    for name in images:
        write(tmp_path / name)
    write(tmp_path / names, "names: [cat]" if names.endswith(("yaml", "yml")) else "cat\n")
    for name in ("train.txt", "README.roboflow.txt", "obj.data"):
        write(tmp_path / name, "data/a.jpg")
    records = read_yolo(tmp_path / given)
    assert YOLO.guess(tmp_path / given)
    assert [box.bbox for box in records.annotations] == [pytest.approx((40, 15, 20, 20))]
    assert [category.name for category in records.categories] == ["cat"]
    assert (YOLO.image_folder(tmp_path / given) / records.images[0].file_name).is_file()
    assert (records.unlabeled, records.notes) == (frozenset(), ())


def test_texts_alone_belong_to_the_images_that_are_given(tmp_path):
    write(tmp_path / "texts/classes.txt", "cat\n")
    write(tmp_path / "texts/a.txt", LINE)
    for name in ("photos/day/a.jpg", "photos/day/b.jpg"):
        write(tmp_path / name)
    records = read_yolo(tmp_path / "texts", Hints(index_of_folder(tmp_path / "photos")))
    assert [image.file_name for image in records.images] == ["day/a.jpg", "day/b.jpg"]
    assert records.unlabeled == {2}
    assert [box.image_id for box in records.annotations] == [1]
    with pytest.raises(DataError, match="expected the images that the labels belong to, found none"):
        read_yolo(tmp_path / "texts")


def test_a_folder_of_splits_says_which_to_give(tmp_path):
    for split in ("train", "valid"):
        write(tmp_path / split / "labels/a.txt", LINE)
        write(tmp_path / split / "images/a.jpg")
    write(tmp_path / "data.yaml", "names: [cat]")
    with pytest.raises(DataError, match="holds the splits train, valid; give one of them"):
        read_yolo(tmp_path / "data.yaml")


def test_labeled_empty_and_unlabeled_are_three_things(tmp_path):
    for name in ("a", "b", "c"):
        write(tmp_path / f"images/{name}.jpg")
    write(tmp_path / "labels/a.txt", LINE)
    write(tmp_path / "labels/b.txt", "\n")
    write(tmp_path / "classes.txt", "cat\n")
    records = read_yolo(tmp_path)
    assert {image.file_name: image.image_id in records.unlabeled for image in records.images} == {
        "a.jpg": False,
        "b.jpg": False,
        "c.jpg": True,
    }
    assert [str(note) for note in records.notes] == ["c.jpg: no label file; the image is not labeled"]
    made = import_project(tmp_path / "images", tmp_path / "p", annotations=tmp_path, format_="yolo")
    assert (made.images, made.labeled_images, made.empty_images) == (3, 2, 1)


def test_hidden_copies_are_left_out_and_counted(tmp_path):
    write(tmp_path / "images/a.jpg")
    write(tmp_path / "labels/a.txt", LINE)
    write(tmp_path / "classes.txt", "cat\n")
    for name in ("labels/._a.txt", "labels/.ipynb_checkpoints/a.txt", "images/._a.jpg", "images/@eaDir/a.jpg"):
        write(tmp_path / name, b"\x00\x05\x16\x07")
    records = read_yolo(tmp_path)
    assert [image.file_name for image in records.images] == ["a.jpg"]
    assert len(records.annotations) == 1
    assert [(note.rule, note.count) for note in records.notes] == [("a hidden file or folder; left out", 2)]


@pytest.mark.parametrize(
    ("images", "label", "owner"),
    [
        (["day/a.jpg"], "a.txt", "day/a.jpg"),
        (["a.jpg"], "day/a.txt", "a.jpg"),
        (["a.jpg"], "a.jpg.txt", "a.jpg"),
    ],
)
def test_a_label_file_in_another_folder_finds_its_image_and_is_noted(tmp_path, images, label, owner):
    for name in images:
        write(tmp_path / "images" / name)
    write(tmp_path / "labels" / label, LINE)
    write(tmp_path / "classes.txt", "cat\n")
    records = read_yolo(tmp_path)
    assert [image.file_name for image in records.images if image.image_id not in records.unlabeled] == [owner]
    assert "found by the end of its name" in records.notes[0].rule


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (["x/1.jpg"], ["y/1.txt"], "labels an image that is not in"),
        (["x/1.jpg", "y/1.jpg"], ["1.txt"], "may mean 'x/1.jpg', 'y/1.jpg'"),
        (["x/1.jpg"], ["x/1.txt", "1.txt"], "both label x/1.jpg"),
        (["a.jpg", "a.png"], ["a.txt"], "a.jpg and a.png differ only in their suffix"),
    ],
)
def test_no_box_ever_lands_on_another_picture(tmp_path, images, labels, words):
    for name in images:
        write(tmp_path / "images" / name)
    for name in labels:
        write(tmp_path / "labels" / name, LINE)
    write(tmp_path / "classes.txt", "cat\n")
    with pytest.raises(DataError) as error:
        read_yolo(tmp_path)
    assert words in str(error.value)


NAME_FILES = {
    "list": ("data.yaml", "names: [no, on, 010, 1e3, 2023-01-01, ~, null, 'x']", "no on 010 1e3 2023-01-01 ~ null x"),
    "mapping": ("data.yaml", "names: {0: no, 1: y}", "no y"),
    "mapping of texts": ("data.yaml", "names: {'0': no, '1': y}", "no y"),
    "block": ("dataset.yaml", "nc: 2\nnames:\n  - off\n  - Yes\n", "off Yes"),
    "mark": ("data.yaml", "\ufeffnames: [cat]", "cat"),
    "lines": ("classes.txt", "no\r\n010\r\n\r\n", "no 010"),
    "lines with a mark": ("classes.txt", "\ufeffcat\ndog", "cat dog"),
    "darknet": ("obj.names", "cat\ndog\n", "cat dog"),
}


def named(tmp_path, **files):
    write(tmp_path / "images/a.jpg")
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.1 0.1")
    for name, text in files.items():
        write(tmp_path / name.replace("_dot_", "."), text)
    return read_yolo(tmp_path)


@pytest.mark.parametrize("kind", NAME_FILES)
def test_names_are_read_as_they_are_written(tmp_path, kind):
    file, text, expected = NAME_FILES[kind]
    assert [category.name for category in named(tmp_path, **{file: text}).categories] == expected.split()


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"classes.txt": "cat\n\ndog\n"}, "line 2 is blank"),
        ({"data.yaml": "names: {0: cat, 2: dog}"}, "numbered from 0"),
        ({"data.yaml": "names: 7"}, "expected a key 'names'"),
        ({"data.yaml": "nc: 2"}, "expected a key 'names'"),
        ({"data.yaml": "names: [[cat]]"}, "expected a key 'names'"),
        ({"data.yaml": "names: [cat"}, "expected a key 'names'"),
        ({"data.yaml": "names: [cat]\nkpt_shape: 4"}, "data.yaml"),
        ({"data.yaml": "names: [cat, dog]", "classes.txt": "dog\ncat\n"}, "name different classes"),
        ({"data.yaml": "names: [cat, dog]", "labels/classes.txt": "dog\ncat\n"}, "name different classes"),
        ({}, "a YOLO folder needs the class names"),
    ],
)
def test_a_list_that_would_give_a_box_another_class_is_refused(tmp_path, files, words):
    with pytest.raises(DataError) as error:
        named(tmp_path, **files)
    assert words in str(error.value)


def test_lenient_names_are_noted_and_given_ones_serve_where_there_are_none(tmp_path):
    records = named(tmp_path, **{"data.yaml": "nc: 3\nnames: [' cat ', dog]"})
    assert [note.rule for note in records.notes] == [
        "nc is 3, but there are 2 names; the names rule",
        "blanks around the name of a class were removed",
    ]
    (tmp_path / "data.yaml").unlink()
    assert read_yolo(tmp_path, Hints(classes=("emu",))).categories[0].name == "emu"


POOL = [ImageRecord(ImageId(k), name, 100, 50) for k, name in enumerate(["day/a.jpg", "day/b.jpg", "night/b.jpg"])]


@pytest.mark.parametrize("place", ["labels/day", "labels", "obj_train_data", "."])
def test_answers_are_found_with_and_without_their_folders(tmp_path, place):
    write(tmp_path / place / "a.txt", LINE)
    write(tmp_path / place / "zzz.txt", LINE)
    given = YOLO.submissions(tmp_path, POOL, ["cat"])
    (submission,) = given.by_image[ImageId(0)].submissions
    assert [(box.label, box.bbox) for box in submission.boxes] == [("cat", pytest.approx((40, 15, 20, 20)))]
    assert set(given.by_image) == {0}
    assert [name.rpartition("/")[2] for name in given.unknown] == ["zzz"]
    write(tmp_path / place / "b.txt", LINE)
    if place != "labels/day":
        with pytest.raises(DataError, match=r"may mean 'day/b\.jpg', 'night/b\.jpg'"):
            YOLO.submissions(tmp_path, POOL, ["cat"])


def test_answers_that_bring_their_own_list_of_classes_are_read_by_it(tmp_path):
    write(tmp_path / "labels/a.txt", "0 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.1 0.1")
    write(tmp_path / "labels/classes.txt", "dog\ncat\n")
    given = YOLO.submissions(tmp_path, POOL, ["cat", "dog"])
    assert [box.label for box in given.by_image[ImageId(0)].submissions[0].boxes] == ["dog", "cat"]
