"""Conversion keeps what a format can hold, and refuses the rest."""

import dataclasses
import itertools
import json
import random
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.data.convert import convert_annotations
from alloop.data.formats.coco import COCO, read_coco
from alloop.data.formats.table import FORMATS, annotation_format, guess_format
from alloop.data.records import Records
from alloop.data.validation import validate
from alloop.errors import DataError
from alloop.evaluation.coco_ap import ignored_objects
from tests.support.annotations import XML, coco_tree, write_json

NEW = {"id": 99, "file_name": "new.png", "width": 20, "height": 20}


@pytest.mark.parametrize(("kind", "lost"), [("voc", "Annotations/a.xml"), ("yolo", "labels/a.txt")])
def test_a_converted_file_that_went_missing_is_no_empty_image(tmp_path, kind, lost):
    write_json(tmp_path / "a.json", coco_tree())
    convert_annotations(tmp_path / "a.json", tmp_path / "out", "coco", kind)
    (tmp_path / "out" / lost).unlink()
    with pytest.raises(DataError, match=r"image 7.*a\.(xml|txt)"):
        annotation_format(kind, "test").read(tmp_path / "out")


def lines_in(folder):
    return sum(bool(line.strip()) for f in folder.rglob("labels/*.txt") for line in f.read_text().splitlines())


def objects_in(folder):
    return sum(len(ET.parse(f).getroot().findall("object")) for f in folder.rglob("*.xml"))


def cvat_boxes_in(folder):
    return len(list(ET.parse(folder / "annotations.xml").getroot().iter("box")))


def regions_in(folder):
    tasks = json.loads((folder / "tasks.json").read_bytes())
    annotations = [a for task in tasks for a in task.get("annotations") or () if not a.get("was_cancelled")]
    return sum(len(annotation.get("result") or ()) for annotation in annotations)


def rows_in(folder):
    lines = (folder / "metadata.jsonl").read_text(errors="replace").split("\n")
    return sum(len((json.loads(line).get("objects") or {"bbox": []})["bbox"]) for line in lines if line.strip())


# a slow, obvious count of the boxes that a folder holds, without the reader of the format
BOXES_IN = {"voc": objects_in, "yolo": lines_in, "cvat": cvat_boxes_in, "label_studio": regions_in, "hf": rows_in}


@pytest.mark.parametrize("kind", BOXES_IN)
def test_thousands_of_mutated_folders_are_read_with_every_box_or_refused(tmp_path, kind):
    (tmp_path / "a.json").write_text(json.dumps(coco_tree()))
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
            assert read_back.boxes == BOXES_IN[kind](tmp_path / "good"), (path, data)
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
                    "ignore": st.integers(0, 1),
                }
            ),
            max_size=8,
        )
    )
    drawn = {box["image_id"] for box in boxes}
    unlabeled = [image["id"] for image in images if image["id"] not in drawn and draw(st.booleans())]
    numbered = [{"id": n, **box} for n, box in enumerate(boxes)]
    return {**coco_tree(), "images": images, "annotations": numbered, "unlabeled": unlabeled}


ROUTES = st.lists(st.sampled_from(sorted(FORMATS)), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(value=records_trees(), route=ROUTES)
def test_any_chain_of_conversions_keeps_images_boxes_classes_flags_and_empty_and_unlabeled_images(
    tmp_path_factory, value, route
):
    folder = tmp_path_factory.mktemp("c")
    here = start = write_json(folder / "start.json", value)
    try:
        before = validate(read_coco(start), "a")
    except DataError as error:
        assert "normalized" in str(error) or "corners" in str(error)  # boxes that are plainly in another unit
        return
    for step, (from_, to) in enumerate(itertools.pairwise(["coco", *route, "coco"])):
        there = folder / f"step{step}"
        convert_annotations(here, there, from_, to)
        here = there
    after = validate(read_coco(here), "b")
    assert (before.images, before.class_names, before.unlabeled) == (after.images, after.class_names, after.unlabeled)
    for image_id, truth in before.annotations.items():
        again = after.annotations[image_id]
        assert np.allclose(truth.boxes, again.boxes, atol=0.01)
        assert truth.labels.tolist() == again.labels.tolist()
        assert truth.crowd.tolist() == again.crowd.tolist()
        assert ignored_objects(truth).tolist() == ignored_objects(again).tolist()


def test_the_commands_know_the_formats(tmp_path):
    (tmp_path / "a.xml").write_text(XML)
    told = CliRunner().invoke(app, ["check-data", str(tmp_path / "a.xml")])
    assert told.exit_code == 0
    assert "images 3, boxes 2, classes 2" in told.output
    out = tmp_path / "ls"
    told = CliRunner().invoke(
        app, ["convert", str(tmp_path / "a.xml"), str(out), "--from", "cvat", "--to", "label_studio"]
    )
    assert told.exit_code == 0
    assert sorted(p.name for p in out.iterdir()) == ["alloop.json", "label_config.xml", "tasks.json"]
    assert guess_format(out) == "label_studio"


def test_a_file_name_that_leads_out_of_the_target_writes_nothing(tmp_path):
    images = [{"id": 7, "file_name": "../../evil.png", "width": 9, "height": 9}]
    path = write_json(tmp_path / "a.json", coco_tree(images=images, annotations=[]))
    with pytest.raises(DataError, match=r"leads out of .*deep/out"):
        convert_annotations(path, tmp_path / "deep" / "out", "coco", "voc")
    assert [p.name for p in tmp_path.rglob("*")] == ["a.json"]


def lossy_files(records, target):
    return COCO.files(Records(records.images, records.categories, records.annotations[:1]), target)


def test_a_format_that_loses_a_box_is_found_out(tmp_path, monkeypatch):
    monkeypatch.setattr("alloop.data.formats.coco.LOSSY", dataclasses.replace(COCO, files=lossy_files), raising=False)
    path = write_json(tmp_path / "a.json", coco_tree())
    with pytest.raises(DataError, match=r"out: .* image 7 \(a.png\) has 1 boxes, 2 were to be written"):
        convert_annotations(path, tmp_path / "out", "coco", "alloop.data.formats.coco:LOSSY")


@pytest.mark.parametrize(("to", "lost"), [("coco", ""), ("yolo", "; 1 masks stay behind, yolo holds boxes")])
def test_the_summary_counts_what_was_written_and_what_was_lost(tmp_path, to, lost):
    path = write_json(tmp_path / "a.json", coco_tree())
    line, *_ = convert_annotations(path, tmp_path / "out", "coco", to)
    assert line == f"{tmp_path / 'out'}: 2 images (1 empty), 2 boxes (1 crowd){lost}"
    with pytest.raises(DataError, match="exists already"):
        convert_annotations(path, tmp_path / "out", "coco", to)


def test_groups_are_kept_by_coco_and_told_where_they_are_lost(tmp_path):
    tree = coco_tree()
    tree["images"][0]["group"] = "clip 1"
    source = write_json(tmp_path / "a.json", tree)
    kept = convert_annotations(source, tmp_path / "b.json", "coco", "coco")
    assert dict(read_coco(tmp_path / "b.json").groups) == {7: "clip 1"}
    assert not any("the groups of" in line for line in kept)
    lines = convert_annotations(source, tmp_path / "c", "coco", "voc")
    assert lines[-1] == "noted: the groups of 1 images stay behind, voc has no place for them"


def test_an_unlabeled_image_is_not_counted_as_empty(tmp_path):
    write_json(tmp_path / "a.json", {**coco_tree(), "images": [*coco_tree()["images"], NEW], "unlabeled": [NEW["id"]]})
    line, *_ = convert_annotations(tmp_path / "a.json", tmp_path / "out.json", "coco", "coco")
    assert line.startswith(f"{tmp_path / 'out.json'}: 3 images (1 empty, 1 not labeled), 2 boxes")
