"""A folder of images becomes a pool."""

import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.data.formats.coco import submissions_of_records
from alloop.data.formats.table import annotation_format
from alloop.data.importing import import_project
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from alloop.values import ImageId, ImageRecord
from tests.support.annotations import XML, folder_of, value


def test_a_half_labeled_folder_becomes_a_pool_with_its_seed_set(tmp_path):
    images = folder_of(tmp_path, ["a/x.jpg", "empty.jpg", "bad.jpg", "new.png", "b/more.jpg"])
    (tmp_path / "annotations.xml").write_text(XML.replace('width="50" height="40"', 'width="200" height="100"'))
    command = ["import", str(images), "--annotations", str(tmp_path / "annotations.xml"), "--out", str(tmp_path / "p")]
    told = CliRunner().invoke(app, [*command, "--classes", "dog,bird"])
    assert told.exit_code == 0, told.output
    assert "5 images, 2 of them labeled with 2 boxes (1 empty), 3 not labeled" in told.output
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
    with pytest.raises(DataError, match=r"'x\.jpg' may mean 'a/x\.jpg', 'b/x\.jpg'"):
        import_project(images, tmp_path / "p", annotations=tmp_path / "export.json", format_="label_studio")
    records = [ImageRecord(ImageId(k), f"{folder}/x.jpg", 200, 100) for k, folder in enumerate("ab")]
    read_back = annotation_format("label_studio", "test").read(tmp_path / "export.json")
    with pytest.raises(DataError, match=r"'x\.jpg' may mean 'a/x\.jpg', 'b/x\.jpg'"):
        submissions_of_records(read_back, records, tmp_path / "export.json")


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
    with pytest.raises(DataError, match=r"a\.jpg\) is not in the image folder"):
        import_project(images, tmp_path / "q", annotations=tmp_path / "export.json", format_="label_studio")
    Image.new("RGB", (20, 10)).save(images / "a.jpg")
    with pytest.raises(DataError, match="the file shows 20 x 10"):
        import_project(images, tmp_path / "q", annotations=tmp_path / "export.json", format_="label_studio")
