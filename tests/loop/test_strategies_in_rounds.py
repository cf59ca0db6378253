"""Strategies in the loop: they choose, and see hidden labels only where they declare it."""

import dataclasses
from typing import ClassVar

import pytest

from alloop.config import parse_config
from alloop.detectors.fitted import FittedTorchDetector
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE
from strategies.random import Random
from tests.support import small_tree


@pytest.mark.parametrize(
    ("detector", "strategy"),
    [
        ("fcos", {"name": "csod"}),
        ("faster_rcnn", {"name": "csod", "features": "gradient", "annotations": "true"}),
        ("faster_rcnn_c4", {"name": "csod"}),
        ("faster_rcnn", {"name": "talisman", "features": "classifier"}),
    ],
    ids=lambda case: case if isinstance(case, str) else "-".join(map(str, case.values())),
)
def test_they_choose_in_the_loop(tmp_path, detector, strategy):
    backbone = {"detector.backbone": "resnet18", "detector.weights": "none"} if detector == "faster_rcnn_c4" else {}
    low = {"detector.score_threshold": 0.01, "strategy": {"score_threshold": 0.01, **strategy}}
    tree = small_tree(**{"detector.name": detector, "loop.rounds": 2, **low, **backbone})
    rounds = run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    assert [record.images for record in rounds] == [6, 10]
    with read_ledger(tmp_path / "run") as ledger:
        assert ledger.facts().label_using == ("annotations" in strategy)


MASK_RCNN = {"detector.name": "mask_rcnn", "training.iterations": 6}


def test_strategies_of_masks_run_in_the_loop(tmp_path):
    for name in ("tfdp", "mask_entropy", "aum", "ccs"):
        tree = small_tree(
            **MASK_RCNN,
            **{
                "loop.rounds": 2,
                "strategy.name": name,
                "strategy.score_threshold": 0.01,
                "detector.score_threshold": 0.01,
            },
        )
        rounds = run_experiment(parse_config(tree), tmp_path / name, TABLE)
        assert [record.images for record in rounds] == [6, 10]


@dataclasses.dataclass(frozen=True)
class Spy:
    """Tells whose hidden labels it is shown."""

    annotations: str = "predicted"
    queries: ClassVar[list] = []
    needs = frozenset()
    source = "a test"

    def select(self, query):
        self.queries.append((self.annotations, set(query.truth) >= set(query.unlabeled), len(query.truth)))
        return Random().select(query)


def test_only_strategies_that_declare_it_get_hidden_labels(tmp_path):
    for annotations in ("predicted", "true"):
        tree = small_tree(**{"loop.rounds": 2, "strategy": {"name": "spy", "annotations": annotations}})
        run_experiment(parse_config(tree), tmp_path / annotations, {"spy": f"{__name__}:Spy"})
    assert Spy.queries == [("predicted", False, 0), ("true", True, 24)]


def test_a_study_that_looks_at_labels_is_marked(tmp_path):
    for annotations in ("true", "predicted"):
        tree = small_tree(**MASK_RCNN, **{"loop.rounds": 2, "strategy": {"name": "tfdp", "annotations": annotations}})
        run_experiment(parse_config(tree), tmp_path / annotations, TABLE)
        with read_ledger(tmp_path / annotations) as ledger:
            assert ledger.facts().label_using == (annotations == "true")


def test_masks_needed_of_a_box_detector_are_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match="needs masks"):
        run_experiment(parse_config(small_tree(**{"strategy.name": "tfdp"})), tmp_path / "a", TABLE)
    tree = small_tree(strategy={"name": "csod", "features": "classifier"})
    with pytest.raises(ConfigError, match="needs classifier_features"):
        run_experiment(parse_config(tree), tmp_path / "b", TABLE)


@pytest.mark.parametrize(("name", "scores"), [("random", False), ("entropy", True)])
def test_random_scores_no_image_of_the_pool_in_a_simulation(tmp_path, monkeypatch, name, scores):
    scored, original = set(), FittedTorchDetector.detections
    monkeypatch.setattr(FittedTorchDetector, "detections", lambda self, ids: scored.update(ids) or original(self, ids))
    run_experiment(parse_config(small_tree(**{"loop.rounds": 2, "strategy.name": name})), tmp_path, TABLE)
    with read_ledger(tmp_path) as ledger:
        pool = ledger.image_hashes().keys()
        predicted = [boxes for *_, boxes in ledger.selections()]
    assert bool(scored & pool) == scores
    assert [boxes is None for boxes in predicted] == [not scores] * 4
