"""CVAT 1.1 as CVAT writes it, and as another reader understands ours."""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest

from alloop.data.convert import convert_annotations
from alloop.data.digit_files import export_digit_scenes
from alloop.data.formats import cvat
from alloop.data.formats.table import annotation_format, guess_format
from alloop.data.validation import validate
from alloop.errors import DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import XML
from tests.support.commands import ROOT


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
    server = Path(os.environ.get("ALLOOP_LABEL_STUDIO", ROOT / ".label-studio/bin/label-studio"))
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


def test_tags_decide_what_became_of_an_image(tmp_path):
    """The boxes of an image without a tag are a draft; a skip sets an image aside, whatever was drawn on it."""
    box = '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    done, skip = '<tag label="alloop_done"/>', '<tag label="alloop_skip"/>'
    contents = {"done": done + box, "empty": done, "skip": skip, "drawn": skip + box, "draft": box, "todo": ""}
    listed = "".join(
        f'<image id="{number}" name="{name}.png" width="20" height="20">{inner}</image>'
        for number, (name, inner) in enumerate(contents.items())
    )
    (tmp_path / "a.xml").write_text(f"<annotations>{listed}</annotations>")
    images = [ImageRecord(ImageId(50 + k), f"{name}.png", 20, 20) for k, name in enumerate(contents)]
    given = cvat.CVAT.submissions(tmp_path / "a.xml", images, ["cat"]).by_image
    states = {name: given[ImageId(50 + k)] for k, name in enumerate(contents)}
    assert [len(states[name].submissions[0].boxes) for name in ("done", "empty")] == [1, 0]
    assert [states[name].submissions[0].is_skip for name in ("done", "skip", "drawn")] == [False, True, True]
    assert [(states[name].submissions, states[name].has_draft) for name in ("draft", "todo")] == [
        ((), True),
        ((), False),
    ]
    records = cvat.read_cvat(tmp_path / "a.xml")
    assert records.unlabeled == {2, 3, 5}, "an image with a box counts as labeled, one that is set aside never"
    assert [box.image_id for box in records.annotations] == [0, 4]
    assert {note.rule.split(":")[0].split(" by")[0]: note.count for note in records.notes} == {
        "not labeled": 3,
        "set aside": 1,
    }
