"""The shipped programs run whole rounds; those of packages that alloop does not need run where these are installed."""

import ast
import json
import os
import re
import sys
from pathlib import Path

import pytest

from alloop.config import parse_config
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE
from tests.support.outside import ADAPTERS, digit_files, external_tree

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return digit_files(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def outside_python():
    """The interpreter that has Ultralytics and transformers."""
    place = os.environ.get("ALLOOP_EXTERNAL", ROOT / ".venv-external" / "bin" / "python")
    if not Path(place).is_file():
        pytest.skip("Ultralytics and transformers are not installed: `make external-install` does it for these tests")
    return str(place)


NAMED = {"one": "random", "other": "entropy"}


def rounds_of(rounds, data, out, command, strategy="entropy"):
    """Run some rounds of a program; return the metrics of each and what it printed in the first."""
    tree = external_tree(data, command, strategy)
    tree["loop"]["rounds"] = rounds
    run_experiment(parse_config(tree), out, TABLE)
    with read_ledger(out) as ledger:
        metrics = [r.metrics for r in ledger.rounds()]
    return metrics, (out / "external" / "round_000" / "log.txt").read_text()


def predictions(out, round_=1):
    return json.loads((out / "external" / f"round_{round_:03d}" / "tell" / "pool.json").read_text())


def test_the_shared_file_needs_python_alone():
    tree = ast.parse((ADAPTERS / "exchange.py").read_text())
    names = [n.name for node in ast.walk(tree) if isinstance(node, ast.Import) for n in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("path", sorted(ADAPTERS.glob("*.py")), ids=lambda path: path.name)
def test_every_program_says_how_it_is_used(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    if path.name != "exchange.py":
        assert f"docs/external/{path.name} {{ask}} {{tell}}" in ast.get_docstring(tree)
        assert path.name in (ROOT / "docs" / "external_detector.md").read_text()


def test_torchvision(data, tmp_path):
    """Two runs of the same program are the same run."""
    program = ADAPTERS / "torchvision_detector.py"
    command = f"{sys.executable} {program} {{ask}} {{tell}} --weights none --epochs 2 --batch 3 --size 64 64"
    runs = [rounds_of(1, data, tmp_path / name, command, strategy) for name, strategy in NAMED.items()]
    assert runs[0][0] == runs[1][0]
    assert predictions(tmp_path / "one", 0) == predictions(tmp_path / "other", 0)
    assert len(re.findall(r"loss [\d.]+", runs[0][1])) == 2


def test_ultralytics(data, tmp_path, outside_python):
    command = (
        f"{outside_python} {ADAPTERS / 'ultralytics_yolo.py'} {{ask}} {{tell}} {{work}} --model yolov8n.yaml "
        "--epochs 2 --size 64 --batch 4 --set optimizer=AdamW --set mosaic=0"
    )
    metrics, log = rounds_of(2, data, tmp_path / "run", command)
    assert len(metrics) == 2
    assert "2 epochs completed" in log
    labels = tmp_path / "run" / "external" / "round_000" / "work" / "data" / "labels"
    assert len(list(labels.glob("*.txt"))) == 6


def test_transformers(data, tmp_path, outside_python):
    config = {
        "model_type": "yolos",
        "image_size": [64, 64],
        "patch_size": 16,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "num_detection_tokens": 8,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    program = ADAPTERS / "transformers_detector.py"
    command = (
        f"{outside_python} {program} {{ask}} {{tell}} --config {tmp_path / 'config.json'} "
        "--steps 101 --batch 4 --lr 1e-3 --size 64"
    )
    metrics, log = rounds_of(2, data, tmp_path / "run", command)
    assert len(metrics) == 2
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", log)]
    assert losses[-1] < losses[0]
    rows = predictions(tmp_path / "run")
    assert len(rows) == 8 * 14
    assert all(len(row["probabilities"]) == 10 and sum(row["probabilities"]) < 1 for row in rows)
