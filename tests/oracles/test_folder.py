"""People behind a folder: what is written, what is read, and what is refused before anybody is asked."""

import dataclasses
import json

import numpy as np
import pytest

from alloop.data.formats.coco import COCO
from alloop.data.images import FolderImages, MemoryImages
from alloop.data.splits import Split
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError
from alloop.oracles.folder import Folder
from alloop.oracles.oracle import PreAnnotations, Task
from alloop.values import ImageId
from tests.support.annotations import coco_tree, folder_of, read_valid, write_json

OWN = dataclasses.replace(COCO, how_to_answer="Write anything.")


@pytest.fixture
def pool(tmp_path):
    dataset = read_valid(write_json(tmp_path / "pool.json", coco_tree(annotations=[])))
    return Split(dataset, FolderImages(folder_of(tmp_path, ["a.png", "b.png"]), dataset.images))


def tasks_of(pool):
    shown = PreAnnotations(np.array([[1.0, 2.0, 11.0, 22.0]]), np.array([1]), np.array([0.5]))
    return [Task(pool.dataset.images[ImageId(7)], shown), Task(pool.dataset.images[ImageId(0)])]


def images_of(pool):
    return list(pool.dataset.images.values())


def test_tasks_are_written_once_and_answers_are_read(pool, tmp_path):
    oracle = Folder(tmp_path / "people").connect(pool)
    assert COCO.how_to_answer in oracle.push(3, tasks_of(pool))
    root = tmp_path / "people" / "round_003"
    assert sorted(p.name for p in root.iterdir()) == ["README.txt", "images", "tasks.json"]
    assert (root / "images" / "a.png").read_bytes() == (tmp_path / "images" / "a.png").read_bytes()
    assert "2 images to annotate with boxes of: cat, dog." in (root / "README.txt").read_text()
    tasks = json.loads((root / "tasks.json").read_bytes())
    assert [(a["image_id"], a["bbox"]) for a in tasks["annotations"]] == [(7, [1.0, 2.0, 10.0, 20.0])]
    (root / "tasks.json").write_text("kept")
    oracle.push(3, tasks_of(pool))
    assert (root / "tasks.json").read_text() == "kept", "nothing is written over"
    assert {a.state for a in oracle.pull(3, images_of(pool)).values()} == {"todo"}
    write_json(root / "answers.json", coco_tree(images=coco_tree()["images"][:1]))
    answers = oracle.pull(3, images_of(pool))
    assert [(answers[i].state, answers[i].work) for i in (7, 0)] == [("done", {}), ("todo", {})]
    assert answers[7].annotations.crowd.tolist() == [False, True]


def test_two_files_of_answers_are_refused(pool, tmp_path):
    root = tmp_path / "round_000"
    root.mkdir()
    for name in ("answers.json", "answers.xml"):
        (root / name).write_text("")
    with pytest.raises(ConfigError, match=r"answers\.json and answers\.xml; keep the one"):
        Folder(tmp_path).connect(pool).pull(0, images_of(pool))


def test_answers_that_cannot_be_read_are_named(pool, tmp_path):
    (tmp_path / "round_000").mkdir()
    (tmp_path / "round_000" / "answers.json").write_text("{")
    with pytest.raises(DataError, match=r"round_000/answers\.json"):
        Folder(tmp_path).connect(pool).pull(0, images_of(pool))


def test_an_answer_on_an_image_of_another_size_is_invalid(pool, tmp_path):
    (tmp_path / "round_000").mkdir()
    other = [{"id": 1, "file_name": "a.png", "width": 10, "height": 8}]
    write_json(tmp_path / "round_000" / "answers.json", coco_tree(images=other, annotations=[]))
    answer = Folder(tmp_path).connect(pool).pull(0, images_of(pool))[7]
    assert (answer.state, answer.remark) == ("invalid", "drawn on 10 x 8 pixels, the pool says 100 x 80")


def test_an_unknown_format_is_refused_by_its_key_before_anything_is_trained(tmp_path):
    with pytest.raises(ConfigError, match=r"oracle\.format: 'coc' .*did you mean 'coco'"):
        Folder(tmp_path, "coc")


def test_a_format_of_ones_own_is_used(pool, tmp_path, monkeypatch):
    monkeypatch.setattr("alloop.data.formats.coco.OWN", OWN, raising=False)
    oracle = Folder(tmp_path, "alloop.data.formats.coco:OWN").connect(pool)
    assert "Write anything." in oracle.push(0, tasks_of(pool))


def test_a_pool_without_files_cannot_be_handed_out(pool, tmp_path):
    dataset = validate(COCO.read(tmp_path / "pool.json"), "pool")
    with pytest.raises(ConfigError, match="needs a pool of image files"):
        Folder(tmp_path).connect(Split(dataset, MemoryImages({}, dataset.images)))
