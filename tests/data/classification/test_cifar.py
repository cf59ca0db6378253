"""CIFAR-10 and CIFAR-100 from binary and from Python files are the same images."""

import pickle

import numpy as np
import pytest

from alloop.data.classification.cifar import read_cifar
from alloop.errors import DataError

CLASSES = [f"class {k}".replace(" ", "_") for k in range(10)]


def images(count, seed):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8), random.integers(0, 10, count)


def rows_of(pixels):
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def write_10(folder, form):
    folder.mkdir()
    parts = {f"data_batch_{k}": images(3, k) for k in range(1, 6)} | {"test_batch": images(4, 9)}
    for name, (pixels, labels) in parts.items():
        if form == "binary":
            whole = np.concatenate([labels[:, None].astype(np.uint8), rows_of(pixels)], axis=1)
            (folder / f"{name}.bin").write_bytes(whole.tobytes())
        else:
            tree = {b"data": rows_of(pixels), b"labels": labels.tolist(), b"batch_label": b"x"}
            (folder / name).write_bytes(pickle.dumps(tree, 2))
    if form == "binary":
        (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n")
    else:
        names = {b"label_names": [name.encode() for name in CLASSES]}
        (folder / "batches.meta").write_bytes(pickle.dumps(names, 2))
    return parts


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar_10(form, tmp_path):
    parts = write_10(tmp_path / "c", form)
    train, test = read_cifar(tmp_path / "c", "train"), read_cifar(tmp_path / "c", "test")
    expected = [parts[f"data_batch_{k}"] for k in range(1, 6)]
    np.testing.assert_array_equal(train.pixels, np.concatenate([pixels for pixels, _ in expected]))
    np.testing.assert_array_equal(train.labels, np.concatenate([labels for _, labels in expected]))
    np.testing.assert_array_equal(test.pixels, parts["test_batch"][0])
    assert train.class_names == tuple(CLASSES)
    assert train.names[:2] == ("train/0", "train/1")
    assert test.names[-1] == "test/3"


@pytest.mark.parametrize("form", ["binary", "python"])
def test_cifar_100_has_the_fine_classes(form, tmp_path):
    pixels, labels = images(5, 0)
    names = [f"fine_{k}" for k in range(10)]
    if form == "binary":
        coarse = np.full((5, 1), 7, dtype=np.uint8)
        whole = np.concatenate([coarse, labels[:, None].astype(np.uint8), rows_of(pixels)], axis=1)
        (tmp_path / "train.bin").write_bytes(whole.tobytes())
        (tmp_path / "fine_label_names.txt").write_text("\n".join(names))
    else:
        tree = {"data": rows_of(pixels), "fine_labels": labels.tolist(), "coarse_labels": [7] * 5}
        (tmp_path / "train").write_bytes(pickle.dumps(tree, 2))
        (tmp_path / "meta").write_bytes(pickle.dumps({"fine_label_names": names, "coarse_label_names": ["a"]}, 2))
    read = read_cifar(tmp_path, "train")
    np.testing.assert_array_equal(read.labels, labels)
    np.testing.assert_array_equal(read.pixels, pixels)
    assert read.class_names == tuple(names)


def test_errors_name_the_file_and_say_what_is_wrong(tmp_path):
    with pytest.raises(DataError, match="expected CIFAR-10 or CIFAR-100, unpacked, with one of the files"):
        read_cifar(tmp_path, "train")
    write_10(tmp_path / "b", "binary")
    file = tmp_path / "b" / "data_batch_2.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"data_batch_2\.bin: 9218 bytes are no whole number of images of 3073 bytes"):
        read_cifar(tmp_path / "b", "train")
    file.write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(DataError, match="image 3 of train has class 11, and 10 classes have names"):
        read_cifar(tmp_path / "b", "train")
    file.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read_cifar(tmp_path / "b", "train")
    write_10(tmp_path / "p", "python")
    (tmp_path / "p" / "data_batch_1").write_bytes(pickle.dumps({"data": np.zeros((2, 3072)), "labels": [0, 1]}, 2))
    with pytest.raises(DataError, match="expected `data` with 3072 bytes for each image, and as many `labels`"):
        read_cifar(tmp_path / "p", "train")
