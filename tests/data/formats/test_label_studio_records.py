"""Exports of Label Studio become records: what is labeled, sizes, ids, names, classes and units."""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alloop.data.formats.format import NO_HINTS, Hints
from alloop.data.formats.label_studio_page import label_config
from alloop.data.formats.label_studio_records import read_label_studio
from alloop.data.formats.table import annotation_format
from alloop.data.image_index import index_of_folder
from alloop.data.reading import read_annotations
from alloop.data.validation import validate
from alloop.errors import DataError
from tests.support.annotations import export, folder_of, value


def read(tmp_path, tasks):
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return validate(annotation_format("label_studio", "test").read(tmp_path / "tasks.json"), "x")


def test_rotation_turns_about_the_top_left_in_pixels(tmp_path):
    """Measured on the page: in per cent of a wide image the turned box would come out wrong."""
    data = read(tmp_path, export(value(25, 25, 20, 20, rotation=30)))
    (x1, y1, x2, y2) = data.annotations[12].boxes[0]
    w, h, sin, cos = 80, 40, math.sin(math.radians(30)), math.cos(math.radians(30))
    assert np.allclose([x1, y1, x2, y2], [100 - h * sin, 50, 100 + w * cos, 50 + w * sin + h * cos], atol=1e-3)


def test_the_newest_annotation_counts_and_a_skip_never(tmp_path):
    tasks = export(value(10, 10, 10, 10))
    tasks[0]["annotations"] += [
        {"id": 2, "result": [value(20, 20, 10, 10)], "updated_at": "2026-01-02", "was_cancelled": False},
        {"id": 3, "result": [value(30, 30, 10, 10)], "updated_at": "2026-01-03", "was_cancelled": True},
    ]
    assert np.allclose(read(tmp_path, tasks).annotations[12].boxes, [[80, 40, 120, 60]])
    untouched = {"data": tasks[0]["data"] | {"alloop_id": 13, "file_name": "b.jpg"}, "annotations": []}
    assert read(tmp_path, [*tasks, untouched]).unlabeled == {13}


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (export(value(1, 1, 1, 1) | {"original_width": 401}), "drawn on an image of 401 x 200"),
        (export(value(float("nan"), 1, 1, 1)), "not finite"),
        (export({"type": "rectangle", "value": {"x": 1, "y": 1, "width": 1, "height": 1}}), "labeled rectangle"),
        (
            export({"type": "brushlabels", "value": {"rle": [1]}}),
            r"task 1 \(a.jpg\) cannot be used: a region of type 'brush",
        ),
        (export(value(0.1, 0.2, 0.3, 0.4)), r"tasks.json: every box \(1\) lies between 0 and 1 per cent"),
        (export(value(120, 80, 200, 100)), r"tasks.json: boxes reach far over 100 per cent of the image \(1 of 1\)"),
        (export(width=None, pages=["a.jpg"], image=None, file_name=None), "names several images"),
        (export(value(None, 1, 1, 1)), "no numbers"),
        (export(width=None), "the size of 'a.jpg' is unknown"),
        (export(alloop_id="x"), "data.alloop_id: expected a whole number, found 'x'"),
        ([{"data": {"alloop_id": 1, "width": 4, "height": 4}, "annotations": 3}], "cannot be used"),
        ({"data": 1}, "expected a list of tasks"),
        ([1], "expected a list of tasks"),
    ],
)
def test_exports_that_cannot_be_used_are_named(tmp_path, tasks, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, tasks)


def records(tmp_path, tasks, hints=NO_HINTS):
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    return read_label_studio(tmp_path / "export.json", hints)


def told(read):
    return {note.rule: note.count for note in read.notes}


def task(annotations=(), name="a.png", **more):
    return {"data": {"image": name}, "annotations": list(annotations), **more}


def submitted(*regions, **more):
    return {"id": 1, "result": list(regions), "was_cancelled": False, "updated_at": "2026-01-01", **more}


BOX = value(10, 10, 20, 20)
STATES = {
    "skipped": task([submitted(BOX, was_cancelled=True)]),
    "the result of its annotation is null": task([submitted() | {"result": None}]),
    "has a draft that nobody submitted": task(drafts=[{"result": [BOX]}], predictions=[{"result": [BOX]}]),
    "has predictions and no annotation": task(predictions=[{"result": [BOX]}]),
    "nobody has annotated it": task([], drafts=[]),
}


@pytest.mark.parametrize("why", STATES)
def test_what_nobody_submitted_is_not_labeled_and_counted_by_its_reason(tmp_path, why):
    hints = Hints(index_of_folder(folder_of(tmp_path, ["a.png"])))
    read = records(tmp_path, [STATES[why]], hints)
    assert (read.unlabeled, list(read.annotations)) == ({1}, [])
    assert told(read)[f"{why}; taken as not labeled"] == 1
    assert told(read)["the export does not say the size of the image; that of the image is taken"] == 1


def test_a_submission_without_a_box_is_an_empty_image_and_counted(tmp_path):
    hints = Hints(index_of_folder(folder_of(tmp_path, ["a.png", "b.png"])))
    read = records(tmp_path, [task([submitted()]), task([submitted({"type": "choices", "value": {}})], "b.png")], hints)
    assert (len(read.images), read.unlabeled, list(read.annotations)) == (2, frozenset(), [])
    assert told(read)["submitted without a box; taken as an image without an object"] == 2


PIECES = {
    "box": submitted(BOX),
    "boxes": submitted(BOX, value(40, 10, 20, -5, label="dog"), {"type": "choices", "value": {"choices": ["ok"]}}),
    "empty": submitted(),
    "skip": submitted(BOX, was_cancelled=True),
    "null": submitted() | {"result": None},
}


@given(
    st.lists(st.tuples(st.lists(st.sampled_from(sorted(PIECES)), max_size=3), st.booleans(), st.booleans()), max_size=8)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_task_is_labeled_or_empty_or_unlabeled_and_boxes_are_those_of_the_newest(tmp_path, kinds):
    tasks, expected = [], []
    for number, (pieces, has_draft, has_prediction) in enumerate(kinds, start=1):
        data = {"image": f"{number}.jpg", "width": 400, "height": 200}
        own = [PIECES[piece] | {"id": 10 - k, "updated_at": f"2026-01-{k + 1:02d}"} for k, piece in enumerate(pieces)]
        more = {"drafts": [{"result": [BOX]}] * has_draft, "predictions": [{"result": [BOX]}] * has_prediction}
        tasks.append({"data": data, "annotations": own[::-1], **more})
        expected.append(next((piece for piece in pieces[::-1] if piece not in ("skip", "null")), None))
    read = records(tmp_path, tasks)
    counts = {"box": 1, "boxes": 2, "empty": 0, None: 0}
    own = read.boxes_by_image()
    assert [len(own[number]) for number in range(1, len(kinds) + 1)] == [counts[piece] for piece in expected]
    assert read.unlabeled == {number for number, piece in enumerate(expected, start=1) if piece is None}
    rules = told(read)
    assert sum(count for rule, count in rules.items() if rule.endswith("taken as not labeled")) == len(read.unlabeled)
    assert rules.get("submitted without a box; taken as an image without an object", 0) == expected.count("empty")
    usable = [sum(piece not in ("skip", "null") for piece in pieces) for pieces, _, _ in kinds]
    assert rules.get("several annotations of a task; the newest is taken", 0) == sum(count > 1 for count in usable)


def test_sizes_come_from_the_data_then_the_regions_then_the_image(tmp_path):
    hints = Hints(index_of_folder(folder_of(tmp_path, ["a.png"])))  # 200 x 100
    unsized = {key: text for key, text in BOX.items() if not key.startswith("original")}
    (image,) = records(tmp_path, [task([submitted(unsized)])], hints).images
    assert (image.width, image.height) == (200, 100)
    (image,) = records(tmp_path, [task([submitted(unsized, BOX)])], hints).images
    assert (image.width, image.height) == (400, 200)
    stated = task([submitted(unsized)])
    stated["data"] |= {"width": "300", "height": 100.0}
    read = records(tmp_path, [stated], hints)
    assert (read.images[0].width, read.images[0].height) == (300, 100)
    assert next(iter(read.annotations)).bbox == (30, 10, 60, 20)
    other = BOX | {"original_width": 401}
    with pytest.raises(DataError, match="drawn on images of 400 x 200 and 401 x 200"):
        records(tmp_path, [task([submitted(BOX, other)])], hints)
    with pytest.raises(
        DataError, match=r"task 1 \(a.png\): the size of 'a.png' is unknown; name its folder, with --images"
    ):
        records(tmp_path, [task([submitted()])])


def test_an_unlabeled_task_of_unknown_size_takes_any_size_that_is_there(tmp_path):
    (image,) = records(tmp_path, [STATES["has predictions and no annotation"]]).images
    assert (image.width, image.height) == (400, 200)
    hints = Hints(index_of_folder(folder_of(tmp_path, ["b.png"])))
    read = records(tmp_path, [STATES["nobody has annotated it"], task([submitted(BOX)], "b.png")], hints)
    assert [image.file_name for image in read.images] == ["b.png"]
    assert told(read)["not labeled, and not among the images; left out"] == 1
    with pytest.raises(DataError, match=r"the size of 'a.png' is unknown"):
        records(tmp_path, [STATES["nobody has annotated it"]])
    with pytest.raises(DataError, match=r"'a.png' is not in .*images"):
        records(tmp_path, [task([submitted()])], hints)


def test_classes_are_sorted_by_name_unless_they_are_listed(tmp_path):
    tasks = [task([submitted(value(10, 10, 20, 20, label="dog"), value(40, 10, 20, 20, label="ant"))])]
    read = records(tmp_path, tasks)
    assert ([category.name for category in read.categories], read.classes_are_seen) == (["ant", "dog"], True)
    assert [box.category_id for box in read.annotations] == [1, 0]
    hinted = records(tmp_path, tasks, Hints(classes=("dog", "ant")))
    assert ([category.name for category in hinted.categories], hinted.classes_are_seen) == (["dog", "ant"], False)
    with pytest.raises(DataError, match="class 'ant' is not among the classes"):
        read_annotations(tmp_path / "export.json", annotation_format("label_studio", "x"), classes=["dog"])
    (tmp_path / "label_config.xml").write_text(label_config(["zebra", "dog"]))
    listed = records(tmp_path, tasks)
    assert ([category.name for category in listed.categories], listed.classes_are_seen) == (
        ["zebra", "dog", "ant"],
        False,
    )


def test_the_page_beside_an_export_tells_which_key_holds_the_image(tmp_path):
    (tmp_path / "label_config.xml").write_text('<View><Image value="$right"/></View>')
    tasks = [{"data": {"left": "l.jpg", "right": "r.jpg"}, "annotations": [submitted(BOX)]}]
    assert records(tmp_path, tasks).images[0].file_name == "r.jpg"
    (tmp_path / "label_config.xml").unlink()
    assert records(tmp_path, tasks).images[0].file_name == "l.jpg"


def test_ids_in_every_spelling_and_free_ones_for_tasks_without(tmp_path):
    ids = ["7", 2.0, None, 1, None]
    tasks = [task([submitted(BOX)], f"{k}.jpg") for k in range(5)]
    for one, given_id in zip(tasks, ids, strict=True):
        one["data"] |= {} if given_id is None else {"alloop_id": given_id}
    assert [image.image_id for image in records(tmp_path, tasks).images] == [7, 2, 3, 1, 4]
    tasks[2]["data"]["alloop_id"] = "2"
    with pytest.raises(DataError, match="two images share this id; give each its own"):
        validate(records(tmp_path, tasks), "x")


def test_two_tasks_of_one_image_are_refused_with_both(tmp_path):
    tasks = [
        task([submitted(BOX)], "/data/upload/1/0123abcd-a.jpg"),
        task([submitted(BOX)], "/data/upload/1/89abcdef-a.jpg"),
    ]
    with pytest.raises(DataError, match=r"file_name 'a.jpg': ids 1, 2 share this file; keep one of them"):
        validate(records(tmp_path, tasks), "x")


def test_leniency_is_counted_once_over_the_file(tmp_path):
    tasks = [task([submitted(value(10, 90, 20, -20), value(10, 10, 20, 20, rotation=5))], f"{k}.jpg") for k in range(3)]
    notes = records(tmp_path, tasks).notes
    assert [note.count for note in notes] == [3, 3]
    assert all(note.first == f"{tmp_path / 'export.json'}: task 1 (0.jpg)" for note in notes)


def test_minimal_and_old_exports_give_the_same_boxes(tmp_path):
    size = {"original_width": 400, "original_height": 200}
    rows = [{"image": "a.png", "id": 1, "label": [BOX["value"] | size], "annotation_id": 1, "annotator": 1}]
    old = {"id": 1, "data": {"image": "a.png"}, "completions": [submitted(BOX)]}
    expected = records(tmp_path, [task([submitted(BOX)])])
    for tasks in (rows, [old]):
        read = records(tmp_path, tasks)
        assert (read.images, list(read.annotations)) == (expected.images, list(expected.annotations))
