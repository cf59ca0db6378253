"""Images may be chosen by another detector than the one that is trained on them."""

import csv

import pytest
import yaml
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.config import load_config, parse_config
from alloop.config.reading import scorer_of
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.scorer import scoring_detector
from alloop.pruning.study import PruneStudy
from strategies import TABLE
from tests.support import small_tree

BOTH = ("faster_rcnn", "fcos")


def tree(**changes):
    """An FCOS, whose images a Faster R-CNN with a training of its own chooses."""
    base = small_tree(**{"data.digit_scenes.pool": 12, "training.iterations": 2, "strategy.name": "csod", **changes})
    scorer = small_tree(**{"detector.name": "faster_rcnn", "training.iterations": 5})
    return {**base, "scorer": {"detector": scorer["detector"], "training": scorer["training"]}}


def written(tmp_path, of):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(of))
    return path


def test_what_the_block_leaves_out_is_as_in_the_experiment():
    config = parse_config(tree())
    scorer = scorer_of(config)
    assert (scorer.detector.name, scorer.training.iterations) == ("faster_rcnn", 5)
    assert (config.detector.name, config.training.iterations) == ("fcos", 2)
    assert scorer.data == config.data
    assert scorer.scorer is None
    longer = {**tree(), "scorer": {"training": tree()["scorer"]["training"]}}
    assert scorer_of(parse_config(longer)).detector == config.detector
    assert scorer_of(parse_config({**tree(), "scorer": None})).training == config.training
    with pytest.raises(ConfigError, match=r"recipe: scorer: give training or weights"):
        parse_config({**tree(), "scorer": {**tree()["scorer"], "weights": "w.safetensors"}}, "recipe")
    with pytest.raises(ConfigError, match="wights"):
        parse_config({**tree(), "scorer": {"wights": "w.safetensors"}})


def test_a_study_trains_and_names_both_references(tmp_path):
    out = tmp_path / "study"
    arguments = ["prune-study", str(written(tmp_path, tree())), "--strategies", "csod", "--keep", "0.5", "--seeds", "0"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(out), "--quiet"])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((out / "pruned.csv").read_text().splitlines()))
    assert {row["strategy"] for row in rows} == {"full_label", "scorer", "random", "csod"}
    assert {row["images"] for row in rows if row["strategy"] in ("full_label", "scorer")} == {"12"}
    assert "scorer at 100%" not in done.stdout, "a reference is not compared with random"
    trained = {}
    for folder in ("full_label_keep1_seed0", "scorer_keep1_seed0", "csod_keep0.5_seed0"):
        with read_ledger(out / folder) as ledger:
            trained[folder] = yaml.safe_load(ledger.facts().config)
    names = {
        folder: (config["detector"]["name"], config["training"]["iterations"]) for folder, config in trained.items()
    }
    assert names == {
        "full_label_keep1_seed0": ("fcos", 2),
        "scorer_keep1_seed0": ("faster_rcnn", 5),
        "csod_keep0.5_seed0": ("fcos", 2),
    }
    assert all(config["scorer"] is None for config in trained.values())


def test_a_subset_depends_on_the_scorer_and_not_on_the_training_of_the_subsets(tmp_path):
    def subset(of):
        study = PruneStudy(parse_config(of), tmp_path / "s", TABLE, ["csod"], [0.5], [0])
        return study._subset_path("csod", 0.5, 0)

    longer = tree()
    longer["scorer"]["training"]["iterations"] = 6
    assert subset(longer) != subset(tree())
    assert subset(tree(**{"training.iterations": 3})) == subset(tree())
    assert subset({**tree(), "scorer": None}) != subset(tree())


def test_the_scorer_is_trained_on_all_labels_and_its_file_is_the_same_detector(tmp_path):
    config = parse_config(tree())
    scorer = scoring_detector(config, tmp_path / "scorer", TABLE)
    with read_ledger(tmp_path / "scorer") as ledger:
        recorded, labeled = yaml.safe_load(ledger.facts().config), sorted(ledger.labeled())
    assert (recorded["detector"]["name"], recorded["training"]["iterations"]) == ("faster_rcnn", 5)
    assert len(labeled) == 12
    (weights,) = (tmp_path / "scorer").rglob("models/*.safetensors")
    scored = {**tree(), "scorer": {"detector": tree()["scorer"]["detector"], "weights": str(weights)}}
    read = scoring_detector(parse_config(scored), tmp_path / "read", TABLE)
    pairs = list(zip(scorer.detections(labeled), read.detections(labeled), strict=True))
    assert sum(len(before) for before, _ in pairs) > 0
    for before, now in pairs:
        assert before.scores.tolist() == now.scores.tolist()
        assert before.boxes.tolist() == now.boxes.tolist()


def test_weights_that_are_trained_already_are_not_trained(tmp_path):
    """Choosing by a file of weights equals choosing by the detector that was trained."""
    trained = small_tree(**{"data.digit_scenes.pool": 12, "detector.name": "faster_rcnn", "loop.rounds": 1})
    run_experiment(parse_config({**trained, "strategy": {"name": "random"}}), tmp_path / "run", TABLE)
    (weights,) = (tmp_path / "run").rglob("models/*.safetensors")
    recipe = {**tree(), "scorer": {"detector": trained["detector"], "weights": str(weights)}}
    study = PruneStudy(load_config(written(tmp_path, recipe)), tmp_path / "study", TABLE, ["csod"], [0.5], [0])
    assert study.run(quiet=True) == []
    names = {trained.strategy for trained in study.results()}
    assert names == {"full_label", "random", "csod"}, "nothing is known of the data that the weights were trained on"
    (subset,) = (tmp_path / "study" / "subsets").glob("csod*")
    again = PruneStudy(load_config(written(tmp_path, recipe)), tmp_path / "again", TABLE, ["csod"], [0.5], [0])
    again.run(quiet=True)
    assert (tmp_path / "again" / "subsets" / subset.name).read_bytes() == subset.read_bytes()


def test_weights_of_another_detector_are_refused(tmp_path):
    run_experiment(parse_config(small_tree(**{"loop.rounds": 1})), tmp_path / "run", TABLE)
    (weights,) = (tmp_path / "run").rglob("models/*.safetensors")
    recipe = {**tree(), "scorer": {"detector": tree()["scorer"]["detector"], "weights": str(weights)}}
    study = PruneStudy(load_config(written(tmp_path, recipe)), tmp_path / "study", TABLE, ["csod"], [0.5], [0])
    with pytest.raises(ConfigError, match=r"scorer\.weights: .*expected .* of shape"):
        study.run(quiet=True)
    recipe["scorer"]["weights"] = str(tmp_path / "nothing.safetensors")
    study = PruneStudy(load_config(written(tmp_path, recipe)), tmp_path / "none", TABLE, ["csod"], [0.5], [0])
    with pytest.raises(ConfigError, match=r"scorer\.weights: .*nothing\.safetensors"):
        study.run(quiet=True)
