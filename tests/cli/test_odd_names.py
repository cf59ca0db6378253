"""Whatever files and folders are called, and whatever lies where an image is expected, nothing is "unexpected"."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from alloop.cli.app import main
from tests.support.projects import write_project

CODES = {0, 1, 2, 76}
ODD = os.fsdecode(b"b\xff\xe9d")  # bytes that are no text in UTF-8


@pytest.fixture
def alloop(monkeypatch, capfdbinary):
    """Return a function that runs a command as the program does and returns its exit code and all that it printed."""

    def run(*arguments, code=None):
        monkeypatch.setattr(sys, "argv", ["alloop", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        printed = b"".join(capfdbinary.readouterr()).decode(errors="backslashreplace")
        assert end.value.code in CODES, printed
        assert "unexpected" not in printed, printed
        assert "Traceback" not in printed, printed
        assert code is None or end.value.code == code, printed
        return end.value.code, printed

    return run


def test_folders_that_are_no_text_hold_projects_runs_and_studies(tmp_path, alloop):
    folder = tmp_path / ODD
    config, run = write_project(folder, **{"loop.rounds": 1}), folder / "run"
    config = config.rename(folder / f"{ODD}.yaml")
    for arguments in (
        ["run", config, "--out", run],
        ["run", config, "--out", run],  # finished: its data are checked again
        ["status", run],
        ["ledger", run],
        ["verify", run],
        ["compare", run],
        ["compare", run, "--format", "json"],
        ["report", run],
        ["study", config, "--strategies", "random", "--seeds", "0", "--out", folder / "study"],
        ["compare", folder / "study"],
        ["prune-study", config, "--strategies", "csod", "--keep", "0.5", "--seeds", "0", "--out", folder / "pruned"],
        ["check-data", folder / "data" / "instances_pool.json", "--images", folder / "data" / "images"],
        ["convert", folder / "data" / "instances_pool.json", folder / "voc", "--from", "coco", "--to", "voc"],
        ["import", folder / "data" / "images", "--out", folder / "imported", "--classes", "a"],
        ["export-digits", folder / "digits", "--set", "pool=2"],
    ):
        alloop(*arguments, code=0)
    moved = folder.rename(tmp_path / "plain")
    _, printed = alloop("verify", moved / "run", code=0)
    assert "19 image files agree" in printed


def test_a_name_that_is_no_text_is_named(tmp_path, alloop):
    (tmp_path / "images").mkdir()
    shutil.copy(
        write_project(tmp_path).parent / "data" / "images" / "pool" / "1000000.png", tmp_path / "images" / "a.png"
    )
    (tmp_path / "images" / "a.png").rename(tmp_path / "images" / f"{ODD}.png")
    _, printed = alloop("import", tmp_path / "images", "--out", tmp_path / "out", "--classes", "a")
    assert "b\\udcff\\udce9d.png" in printed


@pytest.mark.parametrize(
    "override",
    [
        'data.train.annotations="a\\0.json"',
        'data.test.images="a\\0"',
        'loop.seed_images="a\\0"',
        'detector.weights="a\\0.safetensors"',
        'oracle={name: folder, folder: "a\\0"}',
    ],
)
def test_a_nul_in_a_path_is_told_with_its_key(tmp_path, alloop, override):
    config = write_project(tmp_path)
    tree = config.read_text()
    _, printed = alloop("run", config, "--out", tmp_path / "run", "--set", override, code=2)
    assert "holds a NUL" in printed
    assert config.read_text() == tree


def coco(path, file_name, image_id=1):
    image = {"id": image_id, "file_name": file_name, "width": 64, "height": 64}
    box = {"id": 1, "image_id": image_id, "category_id": 1, "bbox": [1, 1, 9, 9]}
    path.write_text(json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "a"}]}))
    return path


@pytest.fixture
def odd_images(tmp_path):
    folder = tmp_path / "images"
    (folder / "folder.jpg").mkdir(parents=True)
    (folder / "dangling.jpg").symlink_to("nowhere")
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image")
    return folder


@pytest.mark.parametrize(
    "name", ["folder.jpg", "dangling.jpg", "loop.jpg", "empty.jpg", "text.jpg", "a\0.jpg", "a\udcff.jpg", "x" * 300]
)
def test_what_is_no_image_is_refused_by_every_command_that_looks_at_it(tmp_path, odd_images, alloop, name):
    file, config = coco(tmp_path / "a.json", name), write_project(tmp_path)
    alloop("check-data", file, "--images", odd_images, code=1)
    overrides = [f"data.train.annotations={file}", f"data.train.images={odd_images}", "loop.seed_set=1"]
    names = [text for override in overrides for text in ("--set", override)]
    code, _ = alloop("run", config, "--out", tmp_path / "run", *names)
    assert code in (1, 2)
    for target in ("voc", "yolo", "cvat", "label_studio"):
        alloop("convert", file, tmp_path / f"to_{target}", "--from", "coco", "--to", target)
    alloop("import", odd_images, "--out", tmp_path / "imported", "--classes", "a")


def test_files_and_empty_folders_where_others_are_expected(tmp_path, alloop):
    config = write_project(tmp_path / "project", **{"loop.rounds": 1})
    pool, images = config.parent / "data" / "instances_pool.json", config.parent / "data" / "images"
    file, empty = tmp_path / "file", tmp_path / "empty"
    file.write_text("x")
    empty.mkdir()
    for out in (file, file / "in", tmp_path / ("x" * 300)):
        alloop("run", config, "--out", out, code=1)
        alloop("study", config, "--strategies", "random", "--seeds", "0", "--out", out)
        alloop("prune-study", config, "--strategies", "random", "--seeds", "0", "--out", out)
        alloop("export-digits", out, "--set", "pool=1", code=1)
        alloop("import", images, "--out", out, "--classes", "a", code=1)
        alloop("convert", pool, out, "--from", "coco", "--to", "voc", code=1)
        alloop("prune", pool, "--strategy", "random", "--keep", "0.5", "--out", out / "x.json", code=1)
    for found in (file, empty, tmp_path / "nowhere", tmp_path / ("x" * 300)):
        for name in ("status", "ledger", "verify", "compare", "report"):
            assert alloop(name, found)[0] != 0
        code = 1 if found in (file, empty) else 2  # 2: there is no such path
        alloop("check-data", found, code=code)
        alloop("run", found, "--out", tmp_path / "run", code=2)
        alloop("import", found, "--out", tmp_path / "imported", "--classes", "a", code=code)
        alloop("prune", found, "--strategy", "random", "--keep", "0.5", "--out", tmp_path / "x.json", code=code)
        for name in ("coco", "voc", "yolo", "cvat", "label_studio"):
            alloop("convert", found, tmp_path / "converted", "--from", name, "--to", "voc", code=code)
        if code == 2:
            alloop("check-data", pool, "--images", found, code=2)
            alloop("convert", pool, tmp_path / "converted", "--from", "coco", "--to", "voc", "--images", found, code=2)
            alloop("split", pool, "--out", tmp_path / "split", "--test", "0.5", "--images", found, code=2)
    assert file.read_text() == "x"


ASCII = (
    {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.mark.parametrize("terminal", ASCII)
def test_a_terminal_that_shows_ascii_alone(tmp_path, terminal):
    config = write_project(tmp_path, **{"loop.rounds": 1})
    for path in (tmp_path / "data").glob("*.json"):
        tree = json.loads(path.read_text())
        for category in tree["categories"]:
            category["name"] = f"Grün-中{category['name']}"
        path.write_text(json.dumps(tree, ensure_ascii=False), encoding="utf-8")
    out, study, pool = tmp_path / "läuft", tmp_path / "studie-ö", tmp_path / "data" / "instances_pool.json"
    commands = [
        ["check-data", pool, "--images", tmp_path / "data" / "images"],
        ["run", config, "--out", out],
        ["status", out],
        ["compare", out, "--classes"],
        ["compare", out, "--classes", "--format", "json"],
        ["report", out],
        ["study", config, "--strategies", "random", "--seeds", "0", "--workers", "2", "--out", study],
        ["verify", study],
        ["prune", pool, "--strategy", "tfdp", "--images", "3", "--out", tmp_path / "ä.json"],
        ["convert", pool, tmp_path / "vöc", "--from", "coco", "--to", "voc"],
    ]
    for arguments in commands:
        texts = [sys.executable, "-m", "alloop", *map(str, arguments)]
        ended = subprocess.run(texts, check=False, capture_output=True, env={**os.environ, **terminal}, timeout=120)
        printed = (ended.stdout + ended.stderr).decode("ascii")
        assert ended.returncode == 0, printed
        assert "unexpected" not in printed
        assert "Traceback" not in printed
