"""Formats are named by the table or by an import path, and guessed from what a path holds."""

import json

import pytest
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.data.formats.coco import COCO
from alloop.data.formats.table import FORMATS, annotation_format, guess_format
from alloop.errors import ConfigError

TREE = {
    "images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 9}],
    "categories": [{"id": 1, "name": "cat"}],
    "annotations": [],
}


def test_a_format_of_ones_own_is_named_by_its_import_path(tmp_path):
    assert annotation_format("alloop.data.formats.coco:COCO", "key") is COCO
    (tmp_path / "a.json").write_text(json.dumps(TREE))
    told = CliRunner().invoke(app, ["check-data", str(tmp_path / "a.json"), "--from", "alloop.data.formats.coco:COCO"])
    assert told.exit_code == 0, told.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coc", "did you mean 'coco'"),
        ("no.module:COCO", "cannot be imported"),
        ("alloop.data.formats.coco:NONE", "cannot be imported"),
        ("alloop.data.formats.coco:read_coco", "is no Format"),
    ],
)
def test_an_unknown_format_is_refused_by_its_key(tmp_path, name, words):
    with pytest.raises(ConfigError, match=rf"data\.train\.format.*{words}"):
        annotation_format(name, "data.train.format")
    (tmp_path / "a.json").write_text(json.dumps(TREE))
    told = CliRunner().invoke(app, ["check-data", str(tmp_path / "a.json"), "--from", name])
    assert told.exit_code == 2
    assert "--from" in told.output


@pytest.mark.parametrize(
    ("files", "path", "expected"),
    [
        (["a.json"], "a.json", "coco"),
        (["a.json.gz"], "a.json.gz", "coco"),
        ([], "missing.json", "coco"),
        (["a.xml"], "a.xml", "cvat"),
        (["a.zip"], "a.zip", "cvat"),
        (["d/annotations.xml"], "d", "cvat"),
        (["d/tasks.json"], "d", "label_studio"),
        (["d/metadata.jsonl"], "d", "hf"),
        (["a.jsonl"], "a.jsonl", "hf"),
        (["d/labels/a.txt"], "d", "yolo"),
        (["d/labels/train/a.txt"], "d/labels/train", "yolo"),
        (["d/Annotations/a.xml"], "d", "voc"),
        (["d/ImageSets/Main/train.txt"], "d/ImageSets/Main/train.txt", "voc"),
        (["d/labels/annotations.xml"], "d", "yolo"),
        (["d/labels/annotations.xml"], "d/labels", "cvat"),
    ],
)
def test_the_format_is_guessed_from_what_the_path_holds(tmp_path, files, path, expected):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    assert guess_format(tmp_path / path) == expected


def test_the_table_names_every_format_once():
    assert len({id(annotation_format(name, "key")) for name in FORMATS}) == len(FORMATS)
