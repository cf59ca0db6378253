"""Exports where people have them: any file name, a folder, a zip, a byte order mark, old and minimal shapes."""

import json
import zipfile

import pytest

from alloop.data.formats.coco import COCO
from alloop.data.formats.label_studio_export import HEAD, looks_like_export, read_export
from alloop.data.formats.table import guess_format
from alloop.errors import DataError
from tests.support.annotations import coco_tree, export, value, write_json

LONG = {"note": "x" * HEAD}


def zipped(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/"), text)
    return path


def test_an_export_is_found_under_any_name(tmp_path):
    tasks = export(value(1, 1, 5, 5))
    (tmp_path / "a").mkdir()
    write_json(tmp_path / "a" / "project-3-at-2024-05-01.json", tasks)
    (tmp_path / "a" / "._project-3-at-2024-05-01.json").write_bytes(b"[{")
    write_json(tmp_path / "a" / "instances.json", coco_tree())
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(tasks).encode())
    page = '<View><Image value="$photo"/></View>'
    zipped(tmp_path / "z.zip", **{"p__export.json": json.dumps(tasks), "p__label_config.xml": page})
    for path in (tmp_path / "a", tmp_path / "bom.json", tmp_path / "z.zip"):
        assert looks_like_export(path)
        assert read_export(path).tasks == tasks
    assert guess_format(tmp_path / "a") == guess_format(tmp_path / "bom.json") == "label_studio"
    assert read_export(tmp_path / "z.zip").page.key == "photo"


def test_tasks_json_comes_before_other_files_and_two_others_are_named(tmp_path):
    for name in ("b.json", "a.json"):
        write_json(tmp_path / name, export())
    with pytest.raises(DataError, match=r"holds 2 Label Studio exports \(a\.json, b\.json\); name the file"):
        read_export(tmp_path)
    write_json(tmp_path / "tasks.json", export(alloop_id=7))
    assert read_export(tmp_path).tasks[0]["data"]["alloop_id"] == 7


@pytest.mark.parametrize(
    "tasks",
    [
        export(value(1, 1, 5, 5)),
        [{"id": 1, "completions": [{"id": 3, "result": []}], "data": {}}],
        [{"id": 1, "predictions": [], "data": {}}],
        [{"id": 1, "annotations": [{"id": 3, "result": [LONG]}], "data": {}}],  # the data stand far behind
        [{"image": "a.jpg", "id": 1, "label": [{"x": 1, "original_width": 4}], "annotation_id": 3}],
    ],
)
def test_every_shape_of_export_is_recognised_by_its_first_bytes(tmp_path, tasks):
    assert looks_like_export(write_json(tmp_path / "x.json", tasks))


@pytest.mark.parametrize(
    "tree",
    [
        coco_tree(),
        [],
        [1],
        {"data": {}},
        [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, "category_id": 1}],
        "data",
    ],
)
def test_other_json_is_not_taken_for_an_export(tmp_path, tree):
    path = write_json(tmp_path / "x.json", tree)
    assert not looks_like_export(path)
    assert guess_format(path) == "coco"


def test_what_cannot_be_read_is_no_export(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04")
    for path in (tmp_path / "missing", tmp_path / "broken.zip", tmp_path):
        assert not looks_like_export(path)
        with pytest.raises(DataError, match=path.name):
            read_export(path)
    with pytest.raises(DataError, match=r"expected a Label Studio JSON export in it, found none"):
        read_export(zipped(tmp_path / "coco.zip", **{"a.json": json.dumps(coco_tree())}))


def test_what_other_formats_wrote_is_not_taken_for_an_export(tmp_path):
    records = COCO.read(write_json(tmp_path / "c.json", coco_tree()))
    for path, data in COCO.files(records, tmp_path / "out.json").items():
        path.write_bytes(data)
        assert not looks_like_export(path)


def test_completions_are_annotations_and_skipped_ones_skips(tmp_path):
    old = [{"id": 1, "data": {"image": "a.jpg"}, "completions": [{"id": 5, "result": [], "skipped": True}, {"id": 6}]}]
    (task,) = read_export(write_json(tmp_path / "x.json", old)).tasks
    assert [(a["id"], bool(a.get("was_cancelled"))) for a in task["annotations"]] == [(5, True), (6, False)]


def test_rows_of_a_minimal_export_become_tasks(tmp_path):
    box = {"x": 1, "y": 2, "width": 3, "height": 4, "rotation": 0, "rectanglelabels": ["cat"]}
    size = {"original_width": 40, "original_height": 20}
    about = {"annotator": 1, "lead_time": 2.5, "updated_at": "2026-01-01"}
    rows = [
        {"image": "a.jpg", "id": 1, "label": [box | size], "quality": "good", "annotation_id": 8, **about},
        {"image": "b.jpg", "id": 2, "annotation_id": 9, **about},
        {"image": "a.jpg", "id": 1, "label": [], "annotation_id": 10, **about},
    ]
    first, second = read_export(write_json(tmp_path / "x.json", rows)).tasks
    assert first["data"]["image"] == "a.jpg"
    assert [a["id"] for a in first["annotations"]] == [8, 10]
    assert first["annotations"][0]["result"] == [{"value": box, **size}]
    assert [a["result"] for a in second["annotations"]] == [[]]


@pytest.mark.parametrize("tree", [{"data": 1}, [1], [{"data": 3}], [{"data": {}}, {"annotation_id": 3}], coco_tree()])
def test_other_shapes_are_refused_and_told_what_to_export(tmp_path, tree):
    with pytest.raises(DataError, match=r"x\.json: expected a list of tasks with data.*export it as JSON"):
        read_export(write_json(tmp_path / "x.json", tree))
