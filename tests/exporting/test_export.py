"""What a round trained on comes back from every format exactly as the ledger holds it, whole or not at all."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

import alloop
from alloop.config import load_config, parse_config
from alloop.data.formats.coco import COCO
from alloop.data.formats.table import FORMATS, annotation_format
from alloop.data.image_index import index_of_folder
from alloop.data.reading import read_annotations, with_file_names
from alloop.data.records import Records
from alloop.data.splits import load_splits
from alloop.data.validation import validate
from alloop.errors import ConfigError, DamagedFileError, DataError
from alloop.exporting import export as module
from alloop.exporting.export import export
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_sizes import recorded_image_sizes
from alloop.ledger.labeled_images import LabeledImage, content_sha256
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop.engine import run_experiment
from alloop.values import ImageId
from strategies import TABLE
from tests.support import small_tree
from tests.support.commands import call
from tests.support.projects import write_project

OLD = Path(__file__).parents[1] / "fixtures" / "run_0_1_0" / "run"


def change(run, sql, *arguments):
    """Change a ledger behind its back."""
    with sqlite3.connect(run / "run.db") as connection:
        connection.execute(sql, arguments)
    connection.close()


def with_odd_boxes(path):
    """Give each image of a pool a crowd, a box to ignore, one over the edge and one too thin; ids of classes sparse."""
    tree = json.loads(path.read_text())
    for image in tree["images"][1:]:
        for bbox, flag in (
            ([1, 2, 30, 20.25], {"iscrowd": 1}),
            ([5.125, 6, 20, 21], {"ignore": 1}),
            ([50.5, 40, 30, 60], {}),
            ([7, 8, 0.25, 9], {}),
        ):
            number = len(tree["annotations"]) + 1000
            tree["annotations"].append({"id": number, "image_id": image["id"], "category_id": 3, "bbox": bbox, **flag})
    for record in (*tree["annotations"], *tree["categories"]):
        key = "id" if "name" in record else "category_id"
        record[key] = 90 - 7 * record[key]
    path.write_text(json.dumps(tree))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A run of two rounds over image files: the folder of its project, in which `run` is the run."""
    folder = tmp_path_factory.mktemp("project")
    config = write_project(folder, **{"loop.seed_set": 3, "loop.query_size": 4})
    with_odd_boxes(folder / "data" / "instances_pool.json")
    run_experiment(load_config(config), folder / "run", TABLE)
    return folder


@pytest.fixture
def moved(project, tmp_path):
    """A copy of the project that a test may damage; its run began in a folder that is not there any more."""
    folder = Path(shutil.copytree(project, tmp_path / "moved"))
    change(folder / "run", "UPDATE fact SET value = replace(value, ?, '/gone')", str(project))
    return folder


def held(run, round_=None):
    """The images, annotations and class names that the ledger holds, by file name."""
    with read_ledger(run) as ledger:
        truths, facts, sizes = ledger.labeled(round_), ledger.facts(), recorded_image_sizes(ledger)
        rows = ledger.database.read("SELECT image_id, file_name FROM image")
    names = {ImageId(row["image_id"]): row["file_name"] for row in rows}
    return {names[i]: (i, sizes.get(i), truth) for i, truth in truths.items()}, facts.classes


def read_back(exported, to):
    """Read an export as a run would read it."""
    format_ = annotation_format(to, "test")
    index = index_of_folder(exported.image_folder or exported.out)
    records = with_file_names(read_annotations(exported.annotations, format_, index), index, "export")
    return validate(records, "export")


def assert_same_annotations(found, expected, masks):
    assert np.array_equal(found.boxes, expected.boxes), "every corner, to the last bit"
    assert np.array_equal(found.labels, expected.labels)
    assert np.array_equal(found.crowd, expected.crowd)
    assert np.array_equal(found.trainable, expected.trainable), "boxes to ignore and thin ones are not trained on"
    if masks:
        assert [m and bytes(m) for m in found.masks] == [m and bytes(m) for m in expected.masks]


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("round_", [0, 1])
@pytest.mark.parametrize("to", FORMATS)
def test_what_is_read_back_is_what_the_ledger_holds(project, tmp_path, to, round_):
    expected, classes = held(project / "run", round_)
    exported = export(project / "run", tmp_path / "out", to=to, round_=round_)
    dataset = read_back(exported, to)
    assert {image.file_name for image in dataset.images.values()} == expected.keys()
    assert dataset.class_names == classes
    assert dataset.category_ids == tuple(90 - 7 * label for label in range(10)), "those of the file of the pool"
    assert not dataset.unlabeled
    for image_id, image in dataset.images.items():
        known_id, size, truth = expected[image.file_name]
        assert (image_id, (image.width, image.height)) == (known_id, size)
        assert_same_annotations(dataset.annotations[image_id], truth, masks=to == "coco")
        assert truth.crowd.any() or image_id == 1_000_000
    assert exported.images == len(expected) == (3 if round_ == 0 else 7)
    assert exported.boxes == sum(len(truth) for _, _, truth in expected.values())


def test_the_example_holds_every_kind_of_box(project):
    """Else the round trips prove less than they say."""
    truths = [truth for _, _, truth in held(project / "run")[0].values()]
    assert any(truth.crowd.any() for truth in truths)
    thin = [(truth.boxes[:, 2:] - truth.boxes[:, :2]).min(axis=1) < 1 for truth in truths]
    assert any(rows.any() for rows in thin)
    assert any((~truth.trainable & ~truth.crowd & ~rows).any() for truth, rows in zip(truths, thin, strict=True))
    assert any(mask is not None for truth in truths for mask in truth.masks)


@pytest.mark.parametrize("to", FORMATS)
def test_the_same_round_gives_the_same_bytes_wherever_the_project_lies(project, moved, tmp_path, to):
    first, second = (export(folder / "run", tmp_path / f"{k}", to=to) for k, folder in enumerate((project, moved)))
    assert bytes_of(first.out) == bytes_of(second.out)
    assert first.content_sha256 == second.content_sha256


@pytest.mark.parametrize("images", ["copy", "link", "none"])
@pytest.mark.parametrize("to", ["coco", "voc", "hf"])
def test_images_are_copied_linked_or_left_out(project, tmp_path, to, images):
    exported = export(project / "run", tmp_path / "out", to=to, images=images)
    found = sorted(path for path in exported.out.rglob("*.png"))
    if images == "none":
        assert not found
        assert exported.image_folder is None
        return
    assert len(found) == exported.images
    for path in found:
        source = project / "data" / "images" / path.relative_to(exported.image_folder)
        assert path.read_bytes() == source.read_bytes()
        assert path.samefile(source) == (images == "link")
    assert exported.image_folder.name == {"coco": "images", "voc": "JPEGImages", "hf": "out"}[to]


def test_an_export_trains_a_run(project, tmp_path):
    """What alloop writes is what its configs accept, for every format with the default image folder."""
    for to in FORMATS:
        exported = export(project / "run", tmp_path / to, to=to)
        block = {"annotations": str(exported.annotations), "format": to}
        data = yaml.safe_load((project / "config.yaml").read_text())["data"] | {"train": block}
        data["test"] = {key: str(project / value) for key, value in data["test"].items()}
        data["reference"] = {key: str(project / value) for key, value in data["reference"].items()}
        splits = load_splits(parse_config(small_tree(data=data)).data)
        assert len(splits.train.dataset.images) == 7
        assert all(splits.train.images.read(image_id).any() for image_id in splits.train.dataset.images)


# the hash of the content


def slow_hash(run, exported):
    """The hash that the documents describe, from the exported COCO file and the charges alone."""
    tree = json.loads((exported.out / "annotations.json").read_bytes())
    with read_ledger(run) as ledger:
        hashes = dict(map(tuple, ledger.database.read("SELECT image_id, annotation_sha256 FROM charge")))
    digest = hashlib.sha256(repr(tuple(category["name"] for category in tree["categories"])).encode())
    for image in sorted(tree["images"], key=lambda image: image["file_name"]):
        facts = (image["file_name"], image["width"], image["height"])
        digest.update(f"{facts!r}{hashes[image['id']]}".encode())
    return digest.hexdigest()


def test_the_hash_is_that_of_the_content_and_status_shows_it(project, tmp_path):
    exported = [export(project / "run", tmp_path / to, to=to, images="none") for to in FORMATS]
    (value,) = {one.content_sha256 for one in exported}
    assert value == slow_hash(project / "run", exported[0])
    assert json.loads((tmp_path / "hf" / "export.json").read_bytes())["content_sha256"] == value
    assert f"content  {value} is the sha256 of what round 1 trained on" in call("status", project / "run").stdout
    first = export(project / "run", tmp_path / "first", round_=0, images="none")
    assert first.content_sha256 != value


IMAGES = [LabeledImage(ImageId(1), "b.png", "x", 2, "h1"), LabeledImage(ImageId(2), "a.png", "y", 1, "h2")]
SIZES = {1: (4, 3), 2: (5, 5)}


@pytest.mark.parametrize(
    ("classes", "images", "sizes"),
    [
        (("cat", "cow"), IMAGES, SIZES),
        (("dog", "cat"), IMAGES, SIZES),
        (("cat", "dog"), IMAGES[:1], SIZES),
        (("cat", "dog"), [LabeledImage(ImageId(1), "c.png", "x", 2, "h1"), IMAGES[1]], SIZES),
        (("cat", "dog"), [LabeledImage(ImageId(1), "b.png", "x", 2, "h3"), IMAGES[1]], SIZES),
        (("cat", "dog"), IMAGES, {1: (3, 4), 2: (5, 5)}),
    ],
)
def test_anything_that_is_exported_changes_the_hash(classes, images, sizes):
    assert content_sha256(classes, images, sizes) != content_sha256(("cat", "dog"), IMAGES, SIZES)


def test_ids_and_prices_do_not_change_the_hash():
    renumbered = [LabeledImage(ImageId(3), "a.png", "z", 7, "h2"), LabeledImage(ImageId(9), "b.png", "x", 2, "h1")]
    before = content_sha256(("cat", "dog"), IMAGES, SIZES)
    assert content_sha256(("cat", "dog"), renumbered, {9: (4, 3), 3: (5, 5)}) == before


def test_the_table_of_a_study_shows_the_beginning_of_the_hash(project, tmp_path):
    shutil.copytree(project / "run", tmp_path / "study" / "one")
    value = export(project / "run", tmp_path / "out", images="none").content_sha256
    assert value[:16] in call("status", tmp_path / "study").stdout


# whole or not at all


KILLED = """
import os, signal, sys
from alloop.exporting import export as module
write, left = module.atomic_write, [int(sys.argv[3])]
def dies(path, data):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, data)
module.atomic_write = dies
module.export(sys.argv[1], sys.argv[2], to="yolo")
"""


@pytest.mark.parametrize("after", [0, 4, 7])
def test_a_killed_export_leaves_no_target_and_the_next_one_removes_what_it_left(project, tmp_path, after):
    command = [sys.executable, "-c", KILLED, project / "run", tmp_path / "out", str(after)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    export(project / "run", tmp_path / "out", to="yolo")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(list((tmp_path / "out").rglob("*.png"))) == 7


def test_what_a_process_that_still_runs_is_writing_is_left_alone(project, tmp_path):
    sleeper = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({600})"])
    try:
        (tmp_path / f".out.{sleeper.pid}.tmp").mkdir()
        export(project / "run", tmp_path / "out", images="none")
        assert (tmp_path / f".out.{sleeper.pid}.tmp").is_dir()
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_failed_export_leaves_nothing(project, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "atomic_write", full)
    with pytest.raises(OSError, match="No space left"):
        export(project / "run", tmp_path / "deep" / "out")
    assert list(tmp_path.iterdir()) == []


def moved_box(records, target):
    boxes = [msgspec.structs.replace(box) for box in records.annotations]
    for box in boxes[-1:]:
        x, y, width, height = box.bbox
        box.bbox = (x + 0.5, y, width, height)
    return COCO.files(Records(records.images, records.categories, boxes), target)


def test_a_format_that_moves_one_box_by_half_a_pixel_is_found_out(project, tmp_path, monkeypatch):
    """Counts agree, contents do not."""
    import dataclasses

    lossy = dataclasses.replace(COCO, files=moved_box)
    monkeypatch.setattr("alloop.data.formats.coco.LOSSY", lossy, raising=False)
    with pytest.raises(DataError, match=r"out: the format does not keep what was read: image .* it lacks the box"):
        export(project / "run", tmp_path / "out", to="alloop.data.formats.coco:LOSSY")
    assert list(tmp_path.iterdir()) == []


# damage


def test_a_changed_image_is_refused_by_copies_and_links_and_named(moved, tmp_path):
    name = next(iter(held(moved / "run")[0]))
    path = moved / "data" / "images" / name
    path.write_bytes(path.read_bytes() + b"\0")
    for images in ("copy", "link"):
        with pytest.raises(DamagedFileError, match=f"{name}: image .* changed"):
            export(moved / "run", tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()
    export(moved / "run", tmp_path / "out", images="none")


def test_images_that_are_gone_are_named(moved, project, tmp_path, monkeypatch):
    shutil.rmtree(moved / "data" / "images" / "pool")
    with pytest.raises(DamagedFileError, match=r"pool/.*\.png: image .* was there when its hash was recorded"):
        export(moved / "run", tmp_path / "out")
    monkeypatch.setattr("alloop.exporting.pool_images.image_folders", lambda _data: {"train": tmp_path / "nowhere"})
    with pytest.raises(DamagedFileError, match=r"nowhere: the images of the run are not there.*--images none"):
        export(moved / "run", tmp_path / "out")


def test_a_changed_annotation_or_charge_is_refused(moved, tmp_path):
    changed = ("annotation = replace(annotation, '\"crowd\": [false', '\"crowd\": [true')", "annotation_sha256 = 'x'")
    for number, column in enumerate(changed):
        run = Path(shutil.copytree(moved / "run", tmp_path / f"{number}"))
        change(run, f"UPDATE charge SET {column}")
        with pytest.raises(
            DamagedFileError, match=r"run\.db: the stored annotation of image \d+ differs from its hash"
        ):
            export(run, tmp_path / "out", images="none")


# runs of older versions


def test_a_run_of_0_1_0_is_exported_with_images_and_sizes(tmp_path):
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    expected, classes = held(run, 2)
    exported = export(run, tmp_path / "out", round_=2)
    dataset = read_back(exported, "coco")
    assert dataset.class_names == classes
    assert {(image.width, image.height) for image in dataset.images.values()} == {(64, 64)}
    for image in dataset.images.values():
        assert_same_annotations(dataset.annotations[image.image_id], expected[image.file_name][2], masks=True)
    assert exported.images == 8
    assert export(run, tmp_path / "default", images="none").round == 1, "the last finished round"
    assert "content" not in call("status", run).stdout, "the ledger alone does not tell the sizes"
    call("verify", run)


def forget_sizes(run):
    """Make a run like one of an older version."""
    change(run, "DROP TABLE image_size")
    change(run, "DELETE FROM fact WHERE name = 'category_ids'")


def test_sizes_that_nobody_recorded_come_from_the_images_else_from_the_annotations(moved, tmp_path):
    before = export(moved / "run", tmp_path / "before", images="none")
    forget_sizes(moved / "run")
    by_images = export(moved / "run", tmp_path / "images", images="none")
    shutil.rmtree(moved / "data" / "images")
    by_annotations = export(moved / "run", tmp_path / "annotations", images="none")
    assert before.content_sha256 == by_images.content_sha256 == by_annotations.content_sha256
    assert [category["id"] for category in json.loads(by_images.annotations.read_bytes())["categories"]] == [
        *range(1, 11)
    ]
    (moved / "data" / "instances_pool.json").unlink()
    with pytest.raises(DataError, match=r"is not there, and nothing else tells the size of pool/"):
        export(moved / "run", tmp_path / "nothing", images="none")


def test_drawn_images_that_come_out_differently_are_refused(tmp_path, monkeypatch):
    run = Path(shutil.copytree(OLD, tmp_path / "run"))
    monkeypatch.setattr("alloop.exporting.pool_images.digit_pixels", lambda *_: np.zeros((64, 64, 3), dtype=np.uint8))
    with pytest.raises(DamagedFileError, match=r"image \d+ .* is drawn differently than when the run began"):
        export(run, tmp_path / "out")
    export(run, tmp_path / "out", images="none")


def test_a_run_without_names_of_classes_says_so(moved, tmp_path):
    change(moved / "run", "DELETE FROM fact WHERE name = 'classes'")
    with pytest.raises(ConfigError, match="recorded no names of classes"):
        export(moved / "run", tmp_path / "out")


# what is refused


def test_a_target_that_holds_something_is_refused_and_an_empty_one_is_taken(project, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(DataError, match=rf"{name}: exists already; give a new name or an empty folder"):
            export(project / "run", tmp_path / name)
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export(project / "run", tmp_path / "empty", images="none").images == 7


def test_rounds_without_labels_are_refused(project, tmp_path):
    with pytest.raises(ConfigError, match=r"--round: .* has labels for the rounds 0 to 1, found 2"):
        export(project / "run", tmp_path / "out", round_=2)
    for name in ("empty", "begun"):
        (tmp_path / name).mkdir()
    with open_ledger(tmp_path / "empty"):
        pass
    with pytest.raises(ConfigError, match="nothing is labeled yet"):
        export(tmp_path / "empty", tmp_path / "out")
    with open_ledger(tmp_path / "begun") as ledger:
        truth = next(iter(held(project / "run")[0].values()))[2]
        ledger.begin(RunFacts(config="{}"), [(ImageId(1), "a.png", "0")], [ImageId(1)], {ImageId(1): truth})
    with pytest.raises(ConfigError, match="no round is finished yet; give --round 0"):
        export(tmp_path / "begun", tmp_path / "out")
    with pytest.raises(ConfigError, match="expected a run folder"):
        export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_formats_and_ways_to_write_images_are_refused(project, tmp_path):
    with pytest.raises(ConfigError, match=r"--to: 'yollo' is not in the table \(did you mean 'yolo'\?\)"):
        export(project / "run", tmp_path / "out", to="yollo")
    with pytest.raises(ConfigError, match="expected copy, link or none, found 'move'"):
        export(project / "run", tmp_path / "out", images="move")


def test_links_over_file_systems_say_what_to_do(project, tmp_path, monkeypatch):
    def refuse(_source, _target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match=r"cannot be linked .*; links need one file system.*--images copy"):
        export(project / "run", tmp_path / "out", images="link")
    assert not (tmp_path / "out").exists()


def test_an_image_with_the_name_of_another_file_is_refused(moved, tmp_path):
    first = "(SELECT image_id FROM charge LIMIT 1)"
    change(moved / "run", f"UPDATE image SET file_name = 'metadata.jsonl' WHERE image_id IN {first}")
    with pytest.raises(DataError, match=r"metadata\.jsonl: an image has the name of a file of the annotations"):
        export(moved / "run", tmp_path / "out", to="hf")


def test_a_name_that_leads_out_of_the_folder_writes_nothing_outside(moved, tmp_path):
    change(moved / "run", "UPDATE image SET file_name = '../../' || file_name")
    for to in ("voc", "coco"):
        with pytest.raises(DataError, match="leads out of"):
            export(moved / "run", tmp_path / "deep" / "out", to=to)
    assert not (tmp_path / "deep").exists()


# the command and the function


def test_the_command_prints_what_it_wrote_and_its_hash(project, tmp_path):
    out = tmp_path / "out"
    lines = call("export", project / "run", "--round", 0, "--to", "yolo", "--out", out, "--quiet").stdout.splitlines()
    value = json.loads((out / "export.json").read_bytes())["content_sha256"]
    assert lines[0].startswith(f"{out}: 3 images (0 empty), ")
    assert lines[0].endswith("masks stay behind, yolo holds boxes")
    assert lines[1:] == [f"images   {out / 'images'}", f"content  sha256 {value}"]
    call("export", project / "run", "--to", "yolo", "--out", out, code=1)
    call("export", project / "run", "--to", "yolo", "--out", tmp_path / "b", "--round", 9, code=2)


def test_the_function_is_public_and_reads_a_run_that_another_process_writes(project, tmp_path):
    from alloop.files import run_lock

    with run_lock(project / "run"), open_ledger(project / "run"):
        exported = alloop.export(str(project / "run"), str(tmp_path / "out"), to="hf", round_=1)
    assert exported.annotations == exported.image_folder == tmp_path / "out"
