"""The rules that annotation records must pass, and what is counted as paid."""

import gzip
import itertools
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alloop.data.convert import convert_annotations
from alloop.data.formats.coco import read_coco, write_coco
from alloop.data.formats.table import annotation_format
from alloop.data.images import image_path
from alloop.data.records import Box, Category, Records
from alloop.data.validation import find_problems, validate
from alloop.errors import AlloopError, DataError
from alloop.values import ImageRecord


def tree(**changes):
    base = {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 0, "file_name": "b.png", "width": 50, "height": 50},
        ],
        "categories": [{"id": 0, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 90, "bbox": [10, 20, 30, 40]},
            {
                "id": 5,
                "image_id": 7,
                "category_id": 0,
                "bbox": [0, 0, 100, 80],
                "iscrowd": 1,
                "segmentation": {"size": [80, 100], "counts": [8000]},
            },
        ],
    }
    return {**base, **changes}


def write(path, value):
    path.write_text(json.dumps(value))
    return path


def read(path):
    return validate(read_coco(path), path.name)


def test_ids_may_be_sparse_and_zero_and_images_empty(tmp_path):
    data = read(write(tmp_path / "a.json", tree()))
    assert data.class_names == ("cat", "dog")
    assert data.annotations[7].labels.tolist() == [1, 0]
    assert data.annotations[7].boxes.tolist() == [[10, 20, 40, 60], [0, 0, 100, 80]]
    assert data.annotations[7].trainable.tolist() == [True, False]
    assert len(data.annotations[0]) == 0


@pytest.mark.parametrize(
    ("bbox", "verdict", "trainable"),
    [
        ([10, 10, 0, 5], "skipped", False),
        ([10, 10, -4, 5], "skipped", False),
        ([200, 10, 5, 5], "skipped", False),
        ([10, 10, 0.5, 20], "skipped", False),
        ([95, 10, 10, 10], "clipped", True),
        ([-3, -3, 10, 10], "clipped", True),
        ([1e308, 0, 1e308, 1], "skipped", False),
        ([99, 79, 1, 1], None, True),
    ],
)
def test_odd_boxes_are_paid_and_only_sound_ones_trained(tmp_path, bbox, verdict, trainable):
    box = {"id": 1, "image_id": 7, "category_id": 0, "bbox": bbox}
    records = read_coco(write(tmp_path / "a.json", tree(annotations=[box])))
    assert [p.verdict for p in find_problems(records, "a")] == ([verdict] if verdict else [])
    data = validate(records, "a")
    assert data.boxes == 1
    assert data.annotations[7].trainable.tolist() == [trainable]
    assert np.isfinite(data.annotations[7].boxes).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"images": [*tree()["images"], {"id": 7, "file_name": "c.png", "width": 5, "height": 5}]},
            ["id 7", "share this id"],
        ),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 0, "height": 5}]}, ["id 7", "0 x 5"]),
        ({"images": [{"file_name": "a.png", "width": 5, "height": 5}]}, ["images[0]", "id"]),
        ({"images": [{"id": "7", "file_name": "a.png", "width": 5, "height": 5}]}, ["images[0]", "int"]),
        ({"categories": []}, ["categories"]),
        ({"categories": [{"id": 0, "name": "cat"}, {"id": 0, "name": "dog"}]}, ["categories: id 0"]),
        ({"annotations": [{"id": 3, "image_id": 99, "category_id": 0, "bbox": [1, 1, 5, 5]}]}, ["id 3", "image_id 99"]),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 1, 5, 5]}]},
            ["id 3", "category_id 1"],
        ),
        ({"annotations": [{"image_id": 7, "category_id": 0, "bbox": [1, 1, 5, 5]}]}, ["annotations[0]", "id"]),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 0}]}, ["id 3", "bbox"]),
        ({"annotations": [{"id": 3, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5]}]}, ["id 3", "bbox"]),
        (
            {"annotations": [{"id": 3, "image_id": 7, "category_id": 0, "bbox": [1, 1, 5, 5], "iscrowd": 2}]},
            ["id 3", "iscrowd"],
        ),
    ],
)
def test_ambiguous_records_are_refused_with_file_id_and_reason(tmp_path, changes, words):
    with pytest.raises(DataError) as error:
        read(write(tmp_path / "broken.json", tree(**changes)))
    for word in ["broken.json", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_refused(tmp_path, number):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree()).replace("[10, 20, 30, 40]", f"[10, {number}, 30, 40]"))
    with pytest.raises(DataError, match=r"a\.json"):
        read(path)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_records_made_in_python_are_held_to_the_same_rule(number):
    box = Box(3, 1, 0, (1.0, number, 5.0, 5.0))
    records = Records([ImageRecord(1, "a.png", 9, 9)], [Category(0, "cat")], [box])
    with pytest.raises(DataError, match=r"id 3.*not finite"):
        validate(records, "x")


@pytest.mark.parametrize("key", ["annotations", "bbox", "image_id", "images"])
def test_a_key_given_twice_is_refused(tmp_path, key):
    text = json.dumps(tree())
    again = '"annotations": [], ' if key == "annotations" else '"images": [], ' if key == "images" else None
    text = text.replace("{", "{" + again, 1) if again else text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1)
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DataError, match="stands twice"):
        read(path)


def test_a_repeated_annotation_id_is_noted_and_both_boxes_count(tmp_path):
    box = {"id": 1, "image_id": 7, "category_id": 0, "bbox": [1, 1, 9, 9]}
    data = read(write(tmp_path / "a.json", tree(annotations=[box, box])))
    assert data.boxes == 2
    assert [p.verdict for p in data.problems] == ["noted"]


def test_gzip_bom_depth_and_garbage(tmp_path):
    good = json.dumps(tree()).encode()
    (tmp_path / "z.json.gz").write_bytes(gzip.compress(good))
    assert read(tmp_path / "z.json.gz").boxes == 2
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
            read(tmp_path / name)


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
    chance, text, path = random.Random(0), json.dumps(tree()), tmp_path / "m.json"
    accepted = refused = 0
    for _ in range(4000):
        mutated = mutate(text, chance)
        path.write_text(mutated, errors="surrogatepass")
        try:
            data = read(path)
        except DataError as error:
            assert "m.json" in str(error)
            refused += 1
            continue
        accepted += 1
        assert data.boxes == len(json.loads(mutated, strict=False).get("annotations", []))
        assert all(np.isfinite(a.boxes).all() for a in data.annotations.values())
    assert accepted > 100
    assert refused > 200


@pytest.mark.parametrize(("kind", "lost"), [("voc", "Annotations/a.xml"), ("yolo", "labels/a.txt")])
def test_a_converted_file_that_went_missing_is_no_empty_image(tmp_path, kind, lost):
    write(tmp_path / "a.json", tree())
    convert_annotations(tmp_path / "a.json", tmp_path / "out", "coco", kind)
    (tmp_path / "out" / lost).unlink()
    with pytest.raises(DataError, match=r"image 7.*a\.(xml|txt)"):
        annotation_format(kind, "test").read(tmp_path / "out")


@pytest.mark.parametrize("kind", ["voc", "yolo", "cvat", "label_studio"])
def test_thousands_of_mutated_folders_are_read_or_refused_by_name(tmp_path, kind):
    (tmp_path / "a.json").write_text(json.dumps(tree()))
    convert_annotations(tmp_path / "a.json", tmp_path / "good", "coco", kind)
    originals = {
        p.relative_to(tmp_path / "good"): p.read_bytes() for p in (tmp_path / "good").rglob("*") if p.is_file()
    }
    chance, outcomes = random.Random(0), {True: 0, False: 0}
    odd = [
        b"",
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
        b"<",
        b">",
        b"&x;",
        b"\xff",
        b"\x00",
        b"[" * 50,
        b"null",
        b"\n",
        b" ",
        b"9" * 400,
    ]
    for _ in range(1500):
        path, data = chance.choice(sorted(originals.items()))
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data) + 1)
            data = data[:at] + chance.choice(odd) + data[at + chance.randint(0, 5) :]
        (tmp_path / "good" / path).write_bytes(data)
        try:
            read_back = validate(annotation_format(kind, "test").read(tmp_path / "good"), "m")
            assert all(np.isfinite(a.boxes).all() for a in read_back.annotations.values())
            outcomes[True] += 1
        except DataError:
            outcomes[False] += 1
        (tmp_path / "good" / path).write_bytes(originals[path])
    assert min(outcomes.values()) > 50


FINITE = st.floats(-50, 150, allow_nan=False, width=32)


@st.composite
def records_trees(draw):
    images = [
        {"id": i, "file_name": f"{i}.png", "width": draw(st.integers(1, 100)), "height": draw(st.integers(1, 100))}
        for i in draw(st.lists(st.integers(0, 10**6), min_size=1, max_size=4, unique=True))
    ]
    boxes = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "image_id": st.sampled_from([i["id"] for i in images]),
                    "category_id": st.sampled_from([0, 90]),
                    "bbox": st.tuples(FINITE, FINITE, FINITE, FINITE),
                    "iscrowd": st.integers(0, 1),
                }
            ),
            max_size=8,
        )
    )
    return {**tree(), "images": images, "annotations": [{"id": n, **box} for n, box in enumerate(boxes)]}


@settings(max_examples=60, deadline=None, derandomize=True)
@given(value=records_trees())
def test_conversion_there_and_back_keeps_every_box_crowd_flag_and_empty_image(tmp_path_factory, value):
    folder = tmp_path_factory.mktemp("c")
    start = write(folder / "start.json", value)
    route = ["coco", "voc", "cvat", "yolo", "label_studio", "coco", "cvat", "label_studio", "voc", "yolo", "coco"]
    here = start
    for step, (from_, to) in enumerate(itertools.pairwise(route)):
        there = folder / f"step{step}"
        convert_annotations(here, there, from_, to)
        here = there
    before, after = validate(read_coco(start), "a"), validate(read_coco(here), "b")
    assert before.images == after.images
    for image_id, truth in before.annotations.items():
        again = after.annotations[image_id]
        assert np.allclose(truth.boxes, again.boxes, atol=0.01)
        assert truth.labels.tolist() == again.labels.tolist()
        assert truth.crowd.tolist() == again.crowd.tolist()


def test_segmentations_keep_their_bytes_through_write(tmp_path):
    path = write(tmp_path / "a.json", tree())
    records = read_coco(path)
    (tmp_path / "b.json").write_bytes(write_coco(records))
    again = read_coco(tmp_path / "b.json")
    assert [bytes(a.segmentation) for a in records.annotations] == [bytes(a.segmentation) for a in again.annotations]


def test_real_files_of_other_tools(tmp_path):
    voc = tmp_path / "voc"
    (voc / "Annotations").mkdir(parents=True)
    (voc / "Annotations" / "x.xml").write_text(
        "<annotation><folder>f</folder><filename>x.jpg</filename><size><width>50</width><height>40</height>"
        "<depth>3</depth></size><object><name>dog</name><pose>Left</pose><truncated>1</truncated><difficult>1"
        "</difficult><bndbox><xmin>5</xmin><ymin>6</ymin><xmax>15</xmax><ymax>26</ymax></bndbox></object></annotation>"
    )
    records = annotation_format("voc", "test").read(voc)
    assert records.annotations[0].bbox == (5, 6, 10, 20)
    assert records.annotations[0].iscrowd == 1
    yolo = tmp_path / "yolo"
    for name in ("labels", "images"):
        (yolo / name).mkdir(parents=True)
    from PIL import Image

    for name in ("a", "b"):
        Image.new("RGB", (100, 50)).save(yolo / "images" / f"{name}.png")
    (yolo / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n")
    (yolo / "data.yaml").write_text("names: [cat, dog]\n")
    records = annotation_format("yolo", "test").read(yolo)
    assert len(records.images) == 2
    assert np.allclose(records.annotations[0].bbox, (40, 15, 20, 20))
    assert records.annotations[0].category_id == 1


def test_splits_of_voc_and_yolo_as_other_tools_lay_them_out(tmp_path):
    from PIL import Image

    voc = tmp_path / "VOC2012"
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (voc / name).mkdir(parents=True)
    for stem in ("a", "b", "c"):
        (voc / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{stem}.jpg</filename><size><width>50</width><height>40</height></size></annotation>"
        )
    (voc / "ImageSets/Main/train.txt").write_text("a\nc\n")
    (voc / "ImageSets/Main/cat_train.txt").write_text("a  1\nb -1\n")
    assert [i.file_name for i in annotation_format("voc", "test").read(voc / "ImageSets/Main/train.txt").images] == [
        "a.jpg",
        "c.jpg",
    ]
    assert [
        i.file_name for i in annotation_format("voc", "test").read(voc / "ImageSets/Main/cat_train.txt").images
    ] == ["a.jpg"]
    assert annotation_format("voc", "test").image_folder(voc / "ImageSets/Main/train.txt") == voc / "JPEGImages"
    yolo = tmp_path / "yolo"
    for split in ("train", "val"):
        for name in ("labels", "images"):
            (yolo / name / split).mkdir(parents=True)
        Image.new("RGB", (100, 50)).save(yolo / "images" / split / f"{split}.png")
        (yolo / "labels" / split / f"{split}.txt").write_text("0 0.1 0.2 0.5 0.2 0.5 0.6\n")
    (yolo / "data.yaml").write_text("names: {0: cat}\n")
    records = annotation_format("yolo", "test").read(yolo / "labels" / "val")
    assert [i.file_name for i in records.images] == ["val.png"]
    assert np.allclose(records.annotations[0].bbox, (10, 10, 40, 20))
    assert json.loads(bytes(records.annotations[0].segmentation)) == [pytest.approx([10, 10, 50, 10, 50, 30])]
    assert annotation_format("yolo", "test").image_folder(yolo / "labels" / "val") == yolo / "images" / "val"
    assert len(annotation_format("yolo", "test").read(yolo).images) == 2


@pytest.mark.parametrize(
    "line", ["x 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0 nan 0.5 0.1 0.1", "7 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1 0.1 0.9"]
)
def test_bad_yolo_lines_name_file_and_line(tmp_path, line):
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    from PIL import Image

    Image.new("RGB", (10, 10)).save(tmp_path / "images" / "a.png")
    (tmp_path / "labels" / "a.txt").write_text(line)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DataError, match=r"a\.txt: line 1"):
        annotation_format("yolo", "test").read(tmp_path)


@pytest.mark.parametrize(
    "xml",
    [
        "<annotation>",
        "<annotation><filename>a.jpg</filename></annotation>",
        "<annotation><filename>a.jpg</filename><size><width>nan</width><height>5</height></size></annotation>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation><filename>&b;</filename></annotation>',
        "<annotation><filename>a</filename><size><width>9</width><height>5</height></size><object><name>x</name></object></annotation>",
    ],
)
def test_bad_voc_files_are_named(tmp_path, xml):
    (tmp_path / "bad.xml").write_text(xml)
    with pytest.raises(DataError, match=r"bad\.xml"):
        annotation_format("voc", "test").read(tmp_path)


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", "a\\..\\x.png", "a\0.png", "link/x.png"])
def test_file_names_cannot_leave_the_image_folder(tmp_path, name):
    root = tmp_path / "images"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="file_name"):
        image_path(root, name)
    assert image_path(root, "sub/ok.png") == (root / "sub" / "ok.png").resolve()


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
