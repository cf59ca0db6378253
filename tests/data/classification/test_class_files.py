"""Images in class folders and in a CSV file, and the embedded digits."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from alloop.data.classification.class_csv import read_class_csv
from alloop.data.classification.class_folders import read_class_folders
from alloop.data.classification.classified import UNLABELED
from alloop.data.classification.embedded_digits import embedded_digits
from alloop.errors import DataError


def images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(folder / name)


def test_the_first_folder_of_an_image_is_its_class(tmp_path):
    images(tmp_path, "dog/a.png", "cat/x/b.jpg", "c.png", "dog/.hidden.png")
    read = read_class_folders(tmp_path)
    assert read.class_names == ("cat", "dog")
    assert dict(zip(read.names, read.labels.tolist(), strict=True)) == {"cat/x/b.jpg": 0, "dog/a.png": 1, "c.png": -1}
    assert read.folder == tmp_path
    assert UNLABELED == -1


def test_given_classes_decide_the_labels_and_refuse_others(tmp_path):
    images(tmp_path, "dog/a.png", "cat/b.png")
    assert read_class_folders(tmp_path, ("dog", "cow", "cat")).labels.tolist() == [2, 0]
    with pytest.raises(DataError, match=r"dog: the folder is none of the classes \(did you mean 'dogs'"):
        read_class_folders(tmp_path, ("dogs", "cat"))
    with pytest.raises(DataError, match="found no image"):
        read_class_folders(tmp_path / "dog" / "nothing")


def test_a_csv_file_has_a_label_for_each_image(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_bytes(b"\xef\xbb\xbffile_name,note,label\na.png,x,dog\nb.png,,\n c.png ,y, cat\n")
    read = read_class_csv(file, tmp_path)
    assert (read.names, read.labels.tolist()) == (("a.png", "b.png", "c.png"), [1, UNLABELED, 0])
    assert read.class_names == ("cat", "dog")
    assert read_class_csv(file, tmp_path, ("dog", "cat")).labels.tolist() == [0, UNLABELED, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,class\na.png,dog\n", "label is not there"),
        ("", "file_name is not there"),
        ("file_name,label\na.png,dog\na.png,cat\n", "'a.png' stands there twice"),
        ("file_name,label\na.png,cat\nb.png,dgo\n", r"line 3: 'dgo' is none of the classes \(did you mean 'dog'"),
    ],
)
def test_a_csv_file_that_does_not_fit_is_refused(text, message, tmp_path):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_class_csv(tmp_path / "labels.csv", tmp_path, ("cat", "dog") if "dgo" in text else ())
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="expected a CSV file in UTF-8"):
        read_class_csv(tmp_path / "labels.csv", tmp_path)


def test_the_embedded_digits_are_those_of_scikit_learn_each_once():
    known = load_digits()
    parts = [embedded_digits(part) for part in ("pool", "reference", "test")]
    pixels = np.concatenate([part.pixels for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    assert [len(part.names) for part in parts] == [1200, 250, 347]
    ours = sorted((image[..., 1].tobytes(), label) for image, label in zip(pixels, labels.tolist(), strict=True))
    theirs = np.round(known.images * 255 / 16).astype(np.uint8)
    assert ours == sorted((image.tobytes(), label) for image, label in zip(theirs, known.target.tolist(), strict=True))
    assert all(len(set(part.labels.tolist())) == 10 for part in parts)
