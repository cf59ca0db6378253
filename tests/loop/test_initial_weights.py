"""A run says once, and records, what its detector took from a file of weights; a wrong file stops it at once."""

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.detectors.torchvision.backbones import SHIPPED
from alloop.errors import ConfigError
from alloop.files import sha256_file
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from strategies import TABLE
from tests.support import small_tree

FRESH = "head.classification_head.cls_logits"


class Lines(Progress):
    """Keeps what is said."""

    def __init__(self):
        super().__init__(quiet=True)
        self.lines = []

    def say(self, message):
        self.lines.append(message)


def run(folder, weights, **changes):
    said = Lines()
    tree = small_tree(**{"detector.weights": str(weights), "loop.rounds": 2, "strategy": {"name": "random"}} | changes)
    return run_experiment(parse_config(tree), folder, TABLE, progress=said), said.lines


@pytest.fixture
def model(tmp_path):
    """Return the last model of a run."""
    run(tmp_path / "before", "digits")
    return tmp_path / "before" / "models" / "round_001.safetensors"


def test_a_run_that_starts_from_a_model_says_so_once_and_records_it(tmp_path, model):
    rounds, lines = run(tmp_path / "after", model)
    about = [line for line in lines if str(model) in line]
    assert len(about) == 1
    assert about[0].startswith(f"detector.weights: {model} is a whole detector: ")
    assert len(rounds) == 2
    with read_ledger(tmp_path / "after") as ledger:
        assert f"detector.weights: {ledger.facts().initial_weights}" == about[0]
    status = CliRunner().invoke(app, ["status", str(tmp_path / "after")])
    assert f"weights  {model} is a whole detector" in status.output.replace("\n", "")
    assert run(tmp_path / "after", model)[1][-1].endswith("nothing to do")


def test_names_of_weights_are_not_reported(tmp_path, model):
    with read_ledger(model.parents[1]) as ledger:
        assert ledger.facts().initial_weights == ""
        assert "initial_weights" not in ledger.facts().rows()


def test_a_detector_of_other_classes_starts_from_all_but_the_class_layers(tmp_path, model):
    tensors = load_file(model)
    tensors |= {f"{FRESH}.{part}": tensors[f"{FRESH}.{part}"][:4].clone() for part in ("weight", "bias")}
    save_file(tensors, tmp_path / "four.safetensors")
    _, lines = run(tmp_path / "after", tmp_path / "four.safetensors")
    assert any(line.endswith(f"layers that start fresh: {FRESH}") for line in lines)


def test_a_file_that_does_not_fit_stops_the_run_before_anything_is_booked(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match=r"detector\.weights: .*w\.safetensors"):
        run(tmp_path / "run", tmp_path / "w.safetensors")
    with read_ledger(tmp_path / "run") as ledger:
        assert ledger.facts() is None


def test_the_file_of_a_backbone_gives_what_its_name_gives(tmp_path):
    by_name, _ = run(tmp_path / "name", "digits")
    by_file, lines = run(tmp_path / "file", SHIPPED)
    assert [r.metrics for r in by_name] == [r.metrics for r in by_file]
    assert any("is a backbone: 26 tensors loaded; layers that start fresh: head." in line for line in lines)


def test_the_hash_of_a_file_may_be_added_to_a_run_that_goes_on_and_changes_no_identity(tmp_path, model):
    torch.save(load_file(model), tmp_path / "w.pth")
    sha256 = sha256_file(tmp_path / "w.pth")
    run(tmp_path / "a", tmp_path / "w.pth", **{"detector.weights_sha256": sha256})
    with read_ledger(tmp_path / "a") as ledger:
        assert ledger.facts().contents == {"detector.weights": sha256}
    _, lines = run(tmp_path / "a", tmp_path / "w.pth", **{"detector.weights_sha256": sha256.upper()})
    assert lines[-1].endswith("nothing to do")
    without, given = (parse_config(small_tree(**{"detector.weights_sha256": value})) for value in (None, sha256))
    assert without.detector.with_siblings() == given.detector.with_siblings()
    assert "weights_sha256" not in without.detector.with_siblings()


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w.PTH"])
def test_a_file_of_weights_is_relative_to_the_config(tmp_path, name):
    tree = small_tree(**{"detector.weights": name})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    assert load_config(tmp_path / "config.yaml").detector.parameters["weights"] == str(tmp_path / name)
