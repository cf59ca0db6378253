"""`alloop select` on the command line."""

import csv
import json

from alloop.data.formats.coco import read_coco
from alloop.data.formats.label_studio import LABEL_STUDIO
from alloop.testing import make_query
from tests.support.commands import call
from tests.support.photographs import photograph
from tests.support.predictions import files_of, write_csv


def test_the_chosen_images_are_written_as_csv_and_as_tasks_with_the_predicted_boxes(tmp_path):
    files = files_of(make_query(round_=0), tmp_path)
    options = ("--strategy", "entropy", "--predictions", files.predictions[0], "--boxes", "12", "--quiet")
    result = call("select", files.pool, *options, "--out", tmp_path / "next.csv", "--tasks", tmp_path / "tasks")
    rows = list(csv.DictReader((tmp_path / "next.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == [str(k) for k in range(1, len(rows) + 1)]
    predicted = sum(float(row["predicted_boxes"]) for row in rows)
    assert predicted >= 12
    assert f"{len(rows)} images, {predicted:g} boxes predicted on them; tasks in {tmp_path / 'tasks'}" in result.output
    records = read_coco(tmp_path / "tasks" / "tasks.json")
    assert [image.file_name for image in records.images] == [row["file_name"] for row in rows]
    assert len(records.annotations) == predicted
    assert (
        "exists already; nothing is overwritten"
        in call("select", files.pool, *options, "--out", tmp_path / "next.csv", code=1).output
    )
    call(
        "select", files.pool, *options, "--out", tmp_path / "ls.csv", "--tasks", tmp_path / "ls", "--to", "label_studio"
    )
    assert LABEL_STUDIO.guess(tmp_path / "ls" / "tasks.json")
    assert (tmp_path / "ls.csv").read_bytes() == (tmp_path / "next.csv").read_bytes()


def test_a_folder_of_images_and_class_names_are_enough(tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(4):
        photograph(number).save(tmp_path / "images" / f"{number}.jpg")
    rows = [{"image_id": 1, "category_id": 7, "bbox": [1, 1, 5, 5], "score": 0.5}]
    write_csv(tmp_path / "p.csv", rows)
    text = (tmp_path / "p.csv").read_text().replace("day1/1.jpg", "2.jpg")
    (tmp_path / "p.csv").write_text(text)
    command = (
        "select",
        tmp_path / "images",
        "--strategy",
        "entropy",
        "--images",
        "1",
        "--predictions",
        tmp_path / "p.csv",
    )
    missing = call(*command, "--out", tmp_path / "out.csv", code=2)
    assert "--classes: nothing names the classes" in missing.output
    result = call(*command, "--classes", "cat,dog", "--out", tmp_path / "out.csv")
    assert "3 of 4 images have no prediction" in result.output
    assert "2.jpg" in (tmp_path / "out.csv").read_text()


def test_wrong_use_is_refused_in_one_paragraph(tmp_path):
    files = files_of(make_query(round_=0), tmp_path)
    out = ("--out", tmp_path / "out.csv")
    assert (
        "give one of --images N and --boxes N"
        in call("select", files.pool, "--strategy", "random", *out, code=2).output
    )
    one = ("--images", "1", *out)
    assert "did you mean 'entropy'" in call("select", files.pool, "--strategy", "entropi", *one, code=2).output
    wrong = call("select", files.pool, "--strategy", "random", "--noisy", "x", *one, code=2)
    assert "--noisy: expected SIGMA=FILE" in wrong.output
    bad = json.loads(files.predictions[0].read_text())
    bad[3]["image_id"] = 1
    files.predictions[0].write_text(json.dumps(bad))
    result = call("select", files.pool, "--strategy", "entropy", "--predictions", files.predictions[0], *one, code=1)
    assert "predictions.json: row 3: image_id 1 is no image of the pool" in result.output
    assert not (tmp_path / "out.csv").exists()
