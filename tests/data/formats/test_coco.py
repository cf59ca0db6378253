"""COCO files: whole or refused with the record that is wrong."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from alloop.data.formats.coco import read_coco, submissions_of_records, write_coco
from alloop.data.validation import validate
from alloop.errors import AlloopError, DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import coco_tree, read_valid, write_json


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_tree()).replace("[10, 20, 30, 40]", f"[10, {number}, 30, 40]"))
    with pytest.raises(DataError, match=r"a\.json"):
        read_valid(path)


@pytest.mark.parametrize("key", ["annotations", "bbox", "image_id", "images"])
def test_a_key_given_twice_is_refused(tmp_path, key):
    text = json.dumps(coco_tree())
    again = '"annotations": [], ' if key == "annotations" else '"images": [], ' if key == "images" else None
    text = text.replace("{", "{" + again, 1) if again else text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="stands twice"):
        read_valid(path)


def test_gzip_bom_depth_and_garbage(tmp_path):
    good = json.dumps(coco_tree()).encode()
    (tmp_path / "z.json.gz").write_bytes(gzip.compress(good))
    assert read_valid(tmp_path / "z.json.gz").boxes == 2
    for name, data in {
        "cut.json.gz": gzip.compress(good)[:-20],
        "empty.json": b"",
        "deep.json": b"[" * 100_000,
        "list.json": b"[]",
        "half.json": good[: len(good) // 2],
        "latin.json": b'{"images": "\xff"}',
        "digits.json": good.replace(b"[10,", b"[" + b"9" * 5000 + b","),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError):
            read_valid(tmp_path / name)


def mutate(text, chance):
    """One to three small edits of a JSON text, some in its values, some in its bytes."""
    value = json.loads(text)
    for _ in range(chance.randint(1, 3)):
        rows = value[chance.choice(["images", "annotations", "categories"])]
        if not rows:
            continue
        row = chance.choice(rows)
        if isinstance(row, dict) and row:
            key = chance.choice(list(row))
            odd = [None, -1, 0, 1.5, "x", [], {}, [1, 2, 3, 4], 2**70, 1e308, True, "\ud800", ["a"] * 4, -0.0]
            action = chance.random()
            if action < 0.2:
                del row[key]
            elif action < 0.4:
                rows.append(dict(row))
            else:
                row[key] = chance.choice(odd)
    out = json.dumps(value)
    if chance.random() < 0.3:
        at = chance.randrange(len(out))
        out = out[:at] + chance.choice(["", "NaN", "]", '"', "1e999", "\x00", ","]) + out[at + chance.randint(0, 2) :]
    return out


def test_thousands_of_mutated_files_never_crash_and_never_change_the_box_count(tmp_path):
    chance, text, path = random.Random(0), json.dumps(coco_tree()), tmp_path / "m.json"
    accepted = refused = 0
    for _ in range(4000):
        mutated = mutate(text, chance)
        path.write_text(mutated, errors="surrogatepass")
        try:
            data = read_valid(path)
        except DataError as error:
            assert "m.json" in str(error)
            refused += 1
            continue
        accepted += 1
        assert data.boxes == len(json.loads(mutated, strict=False).get("annotations", []))
        assert all(np.isfinite(a.boxes).all() for a in data.annotations.values())
    assert accepted > 100
    assert refused > 200


def test_segmentations_keep_their_bytes_through_write(tmp_path):
    path = write_json(tmp_path / "a.json", coco_tree())
    records = read_coco(path)
    (tmp_path / "b.json").write_bytes(write_coco(records))
    again = read_coco(tmp_path / "b.json")
    assert [bytes(a.segmentation) for a in records.annotations] == [bytes(a.segmentation) for a in again.annotations]


@pytest.mark.parametrize(
    ("path", "images", "boxes"),
    [
        ("bccd/annotations/instances_train.json", 205, 2804),
        ("aquarium/annotations/instances_val.json", 127, 909),
        ("coco_mini_ccby/annotations/instances_all.json", 53, 576),
        ("annotations_only/taco_official.json.gz", 1500, 4784),
        ("nuclei_dsb2018/annotations/instances_all_rle.json.gz", 664, 28979),
    ],
)
def test_real_data_sets_are_read_whole(real_data, path, images, boxes):
    data = validate(read_coco(real_data / path), path)
    assert (len(data.images), data.boxes) == (images, boxes)


def test_unknown_suffix_is_no_traceback(tmp_path):
    with pytest.raises(AlloopError):
        read_coco(Path(tmp_path / "missing.json"))


def test_answers_find_their_images_by_the_last_part_of_a_name_where_it_is_clear(tmp_path):
    """People's tools drop folders. A name that two images share is refused."""
    names = ["day/a.png", "day/b.png", "night/b.png"]
    pool = [ImageRecord(ImageId(k), name, 100, 80) for k, name in enumerate(names)]
    listed = [{"id": 9 + k, "file_name": name, "width": 100, "height": 80} for k, name in enumerate(["a.png", "c.png"])]
    path = write_json(tmp_path / "a.json", coco_tree(images=listed, annotations=[]))
    given = submissions_of_records(read_coco(path), pool, path)
    assert (set(given.by_image), given.unknown) == ({0}, ("c.png",))
    listed[1]["file_name"] = "b.png"
    path = write_json(tmp_path / "a.json", coco_tree(images=listed, annotations=[]))
    with pytest.raises(DataError, match=r"may mean 'day/b\.png', 'night/b\.png'"):
        submissions_of_records(read_coco(path), pool, path)
