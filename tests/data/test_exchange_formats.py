"""CVAT 1.1 and Label Studio JSON as other tools write them."""

import json
import math
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.data.convert import convert_annotations
from alloop.data.digit_files import export_digit_scenes
from alloop.data.formats import cvat
from alloop.data.formats.coco import submissions_of_records
from alloop.data.formats.label_studio_tasks import label_config, parsed_region, region
from alloop.data.formats.table import annotation_format, guess_format
from alloop.data.importing import import_project
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label>
<label><name>alloop_done</name></label><label><name>alloop_skip</name></label></labels></task></meta>
<image id="4" name="a/x.jpg" width="200" height="100">
  <box label="dog" source="manual" occluded="0" xtl="10.5" ytl="20.25" xbr="30.5" ybr="60.25" z_order="0"></box>
  <box label="cat" source="manual" occluded="0" xtl="100" ytl="40" xbr="140" ybr="60" rotation="90.0" z_order="0"/>
</image>
<image id="7" name="empty.jpg" width="50" height="40"><tag label="alloop_done" source="manual"/></image>
<image id="8" name="bad.jpg" width="50" height="40"><tag label="alloop_skip" source="manual"/></image>
</annotations>"""


def test_cvat_as_exported(tmp_path):
    (tmp_path / "annotations.xml").write_text(XML)
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("annotations.xml", XML)
    for path in (tmp_path, tmp_path / "annotations.xml", tmp_path / "task.zip"):
        assert guess_format(path) == "cvat"
        data = validate(annotation_format("cvat", "test").read(path), "x")
        assert data.class_names == ("cat", "dog"), "the tags of the workflow are no classes"
        assert [(i.image_id, i.file_name) for i in data.images.values()] == [
            (4, "a/x.jpg"),
            (7, "empty.jpg"),
            (8, "bad.jpg"),
        ]
        # the second box is turned by a quarter about its centre (120, 50): 20 wide, 40 high
        assert np.allclose(data.annotations[4].boxes, [[10.5, 20.25, 30.5, 60.25], [110, 30, 130, 70]])
        assert data.annotations[4].labels.tolist() == [1, 0]
    assert cvat.cvat_tags(tmp_path) == {"a/x.jpg": set(), "empty.jpg": {"alloop_done"}, "bad.jpg": {"alloop_skip"}}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('xtl="10.5"', 'xtl="nan"', "finite"),
        ('xtl="10.5"', "", "'xtl' of <box> is missing"),
        ('width="200"', 'width="200.5"', "whole number"),
        ("<tag label", '<polygon label="cat" points="1,2;3,4"/><tag label', "holds polygon"),
        ("</annotations>", "<track/></annotations>", "tracks of a video"),
        ("<annotations>", '<!DOCTYPE a [<!ENTITY x "y">]><annotations>', "entity"),
        ("<annotations><version>", "<version>", "cannot be read"),
    ],
)
def test_cvat_that_cannot_be_used_is_named(tmp_path, old, new, words):
    assert old in XML
    (tmp_path / "a.xml").write_text(XML.replace(old, new, 1))
    with pytest.raises(DataError, match=words):
        annotation_format("cvat", "test").read(tmp_path / "a.xml")


READ_BY_DATUMARO = """
import json, sys, datumaro as dm
read = dm.Dataset.import_from(sys.argv[1], "cvat")
names = [label.name for label in read.categories()[dm.AnnotationType.label]]
boxes = lambda item: [a for a in item.annotations if a.type == dm.AnnotationType.bbox]
print(json.dumps({i.id: sorted([names[a.label], a.x, a.y, a.w, a.h] for a in boxes(i)) for i in read}))
"""


@pytest.mark.labelstudio
def test_another_reader_of_cvat_finds_the_same_boxes(tmp_path):
    server = Path(os.environ.get("ALLOOP_LABEL_STUDIO", Path(__file__).parents[2] / ".label-studio/bin/label-studio"))
    python = server.parents[1] / "readers" / "bin" / "python"
    if not python.is_file():
        pytest.skip("datumaro is not installed: `make label-studio-install` installs it for this test")
    export_digit_scenes(tmp_path, ["pool=30", "reference=1", "test=1"])
    convert_annotations(tmp_path / "instances_pool.json", tmp_path / "cvat", "coco", "cvat")
    shutil.copytree(tmp_path / "images", tmp_path / "cvat" / "images")
    told = subprocess.run(
        [python, "-c", READ_BY_DATUMARO, tmp_path / "cvat"], capture_output=True, text=True, check=True
    )
    found = json.loads(told.stdout.splitlines()[-1])
    records = annotation_format("coco", "test").read(tmp_path / "instances_pool.json")
    names = {category.id: category.name for category in records.categories}
    expected = {image.image_id: [] for image in records.images}
    for box in records.annotations:
        expected[box.image_id].append([names[box.category_id], *box.bbox])
    assert len(found) == 30
    for image in records.images:
        theirs, ours = found[image.file_name.rpartition(".")[0]], sorted(expected[image.image_id])
        assert [row[0] for row in theirs] == [row[0] for row in ours]
        assert np.allclose([row[1:] for row in theirs], [row[1:] for row in ours], atol=0.01)


def export(*regions, **data):
    """One task of 400 x 200 pixels with one annotation."""
    facts = {"alloop_id": 12, "file_name": "a.jpg", "image": "/data/local-files/?d=a.jpg", "width": 400, "height": 200}
    annotations = [{"id": 1, "result": list(regions), "was_cancelled": False, "updated_at": "2026-01-01"}]
    return [{"id": 900, "data": facts | data, "annotations": annotations}]


def value(x, y, w, h, rotation=0, label="cat", **more):
    inner = {"x": x, "y": y, "width": w, "height": h, "rotation": rotation, "rectanglelabels": [label]}
    return {"type": "rectanglelabels", "original_width": 400, "original_height": 200, "value": inner, **more}


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
    untouched = {"data": tasks[0]["data"] | {"alloop_id": 13}, "annotations": []}
    assert len(read(tmp_path, [*tasks, untouched]).annotations[13]) == 0


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (export(value(1, 1, 1, 1) | {"original_width": 401}), "drawn on an image of 401 x 200"),
        (export(value(float("nan"), 1, 1, 1)), "not finite"),
        (export({"type": "rectangle", "value": {"x": 1, "y": 1, "width": 1, "height": 1}}), "labeled rectangle"),
        (export({"type": "brushlabels", "value": {"rle": [1]}}), "labeled rectangle"),
        (export(value(None, 1, 1, 1)), "no numbers"),
        (export(width=None), "size is unknown"),
        (export(alloop_id="x"), "cannot be used"),
        ([{"data": {"alloop_id": 1, "width": 4, "height": 4}, "annotations": 3}], "cannot be used"),
        ({"data": 1}, "expected a list of tasks"),
        ([1], "expected a list of tasks"),
    ],
)
def test_exports_that_cannot_be_used_are_named(tmp_path, tasks, words):
    with pytest.raises(DataError, match=words):
        read(tmp_path, tasks)


def test_regions_there_and_back_in_pixels():
    random = np.random.default_rng(0)
    for number in range(200):
        size = (int(random.integers(1, 5000)), int(random.integers(1, 5000)))
        low, high = np.sort(random.uniform(0, size, (2, 2)), axis=0)
        corners = (*low, *high)
        label, found = parsed_region(region(corners, "a b", size, number), size)
        assert label == "a b"
        assert np.allclose(found, corners, atol=1e-6)
    assert '<Label value="a &lt;b&gt;"' in label_config(["a <b>"])


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


# a folder of images as a pool


def folder_of(tmp_path, names):
    for name in names:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(path)
    return tmp_path / "images"


def test_a_half_labeled_folder_becomes_a_pool_with_its_seed_set(tmp_path):
    images = folder_of(tmp_path, ["a/x.jpg", "empty.jpg", "bad.jpg", "new.png", "b/more.jpg"])
    (tmp_path / "annotations.xml").write_text(XML.replace('width="50" height="40"', 'width="200" height="100"'))
    command = ["import", str(images), "--annotations", str(tmp_path / "annotations.xml"), "--out", str(tmp_path / "p")]
    told = CliRunner().invoke(app, [*command, "--classes", "dog,bird"])
    assert told.exit_code == 0, told.output
    assert "5 images, 2 of them labeled with 2 boxes" in told.output
    pool = validate(annotation_format("coco", "test").read(tmp_path / "p" / "pool.json"), "p")
    assert pool.class_names == ("cat", "dog", "bird")
    by_name = {record.file_name: image_id for image_id, record in pool.images.items()}
    assert by_name["a/x.jpg"] == 4, "ids of what is labeled are kept"
    assert by_name["empty.jpg"] == 7
    assert (tmp_path / "p" / "labeled.txt").read_text() == "4\n7\n", "a skipped image is not labeled, an empty one is"
    assert len(pool.annotations[4]) == 2
    assert CliRunner().invoke(app, command).exit_code == 1, "nothing is overwritten"


def test_names_that_are_not_clear_match_nothing(tmp_path):
    images = folder_of(tmp_path, ["a/x.jpg", "b/x.jpg"])
    box = value(10, 10, 20, 20) | {"original_width": 200, "original_height": 100}
    task = {"data": {"image": "x.jpg", "width": 200, "height": 100}, "annotations": [{"id": 1, "result": [box]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match="is not in the image folder"):
        import_project(images, tmp_path / "p", annotations=tmp_path / "export.json", format_="label_studio")
    records = [ImageRecord(ImageId(k), f"{folder}/x.jpg", 200, 100) for k, folder in enumerate("ab")]
    read_back = annotation_format("label_studio", "test").read(tmp_path / "export.json")
    assert submissions_of_records(read_back, records) == {}


def test_a_folder_without_labels_needs_class_names(tmp_path):
    images = folder_of(tmp_path, ["x.jpg", "y.jpg"])
    with pytest.raises(ConfigError, match="nothing names the classes"):
        import_project(images, tmp_path / "p")
    made = import_project(images, tmp_path / "p", classes=["cell"])
    assert (made.images, made.labeled_images, made.labeled) == (2, 0, None)
    with pytest.raises(DataError, match="found none"):
        import_project(tmp_path / "p", tmp_path / "q", classes=["cell"])


def test_label_studio_uploads_are_found_by_their_own_names(tmp_path):
    images = folder_of(tmp_path, ["a.jpg", "b.jpg", "c.jpg"])
    tasks = [
        {
            "id": k,
            "data": {"image": f"/data/upload/3/0123abcd-{name}", "width": 200, "height": 100},
            "annotations": annotations,
        }
        for k, (name, annotations) in enumerate(
            [
                (
                    "a.jpg",
                    [{"id": 1, "result": [value(10, 10, 20, 20) | {"original_width": 200, "original_height": 100}]}],
                ),
                ("b.jpg", [{"id": 2, "result": [], "was_cancelled": True}]),
                ("c.jpg", []),
            ]
        )
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    made = import_project(images, tmp_path / "p", annotations=tmp_path / "export.json", format_="label_studio")
    assert (made.images, made.labeled_images, made.boxes) == (3, 1, 1)
    (images / "a.jpg").unlink()
    with pytest.raises(DataError, match=r"0123abcd-a\.jpg\) is not in the image folder"):
        import_project(images, tmp_path / "q", annotations=tmp_path / "export.json", format_="label_studio")
    Image.new("RGB", (20, 10)).save(images / "a.jpg")
    with pytest.raises(DataError, match="the file shows 20 x 10"):
        import_project(images, tmp_path / "q", annotations=tmp_path / "export.json", format_="label_studio")
