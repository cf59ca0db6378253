"""What is checked before anything is trained, from what the detector plug-in declares alone."""

import dataclasses
import sys
from typing import ClassVar

import pytest

from alloop.config import parse_config
from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.images import MemoryImages
from alloop.data.splits import Split
from alloop.detectors.torchvision.catalogue import FCOS, MaskRCNN
from alloop.errors import ConfigError, TrainingError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from alloop.loop.parts import detector_gives
from alloop.query import Need
from alloop.tasks.detection import Detection
from alloop.values import Annotations, ImageRecord
from strategies import TABLE
from tests.support import small_tree

SEMI = {"style": "unbiased_teacher", "unlabeled_ratio": 1, "threshold": 0.05}


class Renamed:
    """A network whose loss terms have names of their own."""

    def __init__(self, inner):
        self._inner, self.module = inner, inner.module
        self.levels, self.last_layers = inner.levels, inner.last_layers
        self.detect, self.embed, self.region_features = inner.detect, inner.embed, inner.region_features
        self.cached_features = inner.cached_features

    def losses(self, images, targets):
        return {f"my_{name}": term for name, term in self._inner.losses(images, targets).items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Declaring(FCOS):
    classification_terms: ClassVar = frozenset({"my_classification"})

    def build(self, classes):
        return Renamed(super().build(classes))


class Mistaken(Declaring):
    classification_terms = frozenset({"classification"})


class Silent(Declaring):
    classification_terms = frozenset()


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "own", sys.modules[__name__])


def tree(name, **changes):
    detector = small_tree()["detector"] | {"name": name}
    return small_tree(detector=detector, **{"strategy.name": "random", "loop.rounds": 1}, **changes)


def models(folder):
    return [path.read_bytes() for path in sorted(folder.glob("models/*.safetensors"))]


def test_nothing_is_built_before_the_checks_are_done(monkeypatch):
    def build(self, classes):
        raise NotImplementedError

    monkeypatch.setattr(FCOS, "build", build)
    config = parse_config(small_tree(**{"training.semi_supervised": SEMI}))
    assert prepare(config, TABLE).detector.gives == detector_gives(config)


def test_a_detector_of_ones_own_is_trained_like_a_built_in_one(tmp_path):
    run_experiment(parse_config(tree("fcos")), tmp_path / "fcos", TABLE)
    run_experiment(parse_config(tree("own:Declaring")), tmp_path / "own", TABLE)
    assert len(models(tmp_path / "own")) == 1
    assert models(tmp_path / "own") == models(tmp_path / "fcos")


def test_a_detector_with_other_loss_names_learns_from_pseudo_labels_too(tmp_path):
    semi = {"training.semi_supervised": SEMI}
    for name in ("fcos", "own:Declaring"):
        run_experiment(parse_config(tree(name, **semi)), tmp_path / name[-4:], TABLE)
    assert models(tmp_path / "ring") == models(tmp_path / "fcos")
    run_experiment(parse_config(tree("fcos")), tmp_path / "supervised", TABLE)
    assert models(tmp_path / "supervised") != models(tmp_path / "fcos"), "the pseudo-labels changed nothing"


def test_a_detector_that_declares_no_classification_terms_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"'own:Silent' declares no `classification_terms`"):
        run_experiment(parse_config(tree("own:Silent", **{"training.semi_supervised": SEMI})), tmp_path, TABLE)
    run_experiment(parse_config(tree("own:Silent")), tmp_path, TABLE)


def test_declared_terms_that_are_not_among_the_losses_are_refused_before_a_step_is_taken(tmp_path):
    with pytest.raises(TrainingError, match=r"\['classification'\].*found \['my_bbox_ctrness'"):
        run_experiment(parse_config(tree("own:Mistaken", **{"training.semi_supervised": SEMI})), tmp_path, TABLE)
    assert models(tmp_path) == []


@pytest.mark.parametrize(
    ("gives", "masks", "refused"),
    [
        (MaskRCNN.gives, (None, b"[[0,0,9,0,9,9]]"), True),
        (MaskRCNN.gives, (b"[[0,0,9,0,9,9]]", None), False),
        (FCOS.gives, (None, None), False),
    ],
    ids=["missing", "missing where it is not trained", "not needed"],
)
def test_a_detector_that_gives_masks_needs_one_for_every_trainable_box(gives, masks, refused):
    truth = Annotations([[0, 0, 9, 9], [1, 1, 9, 9]], [0, 0], [False, True], [True, False], masks)
    images = {7: ImageRecord(7, "7.png", 9, 9)}
    dataset = DataSet("pool", images, GroupedAnnotations.of_mapping({7: truth}), ("cat",), (1,))
    pool = Split(dataset, MemoryImages({}, images))
    if not refused:
        Detection().check(pool, gives, "own:Masks")
        return
    with pytest.raises(ConfigError, match="own:Masks needs masks, but image 7 has boxes without a segmentation"):
        Detection().check(pool, gives, "own:Masks")


@pytest.mark.parametrize(
    ("strategy", "missing"), [("localization_stability", Need.NOISY_DETECTIONS), ("k_center", Need.EMBEDDINGS)]
)
def test_a_strategy_is_refused_by_what_the_plug_in_declares(strategy, missing, monkeypatch):
    monkeypatch.setattr(Declaring, "gives", FCOS.gives - {missing})
    config = parse_config(small_tree(detector=tree("own:Declaring")["detector"], **{"strategy.name": strategy}))
    with pytest.raises(ConfigError, match=f"needs {missing}, which detector 'own:Declaring' does not give"):
        prepare(config, TABLE)


def test_a_distance_of_embeddings_needs_a_detector_that_gives_them(monkeypatch):
    changes = {"loop.min_distance": "0.1 cosine", "strategy.name": "random"}
    config = parse_config(small_tree(detector=tree("own:Declaring")["detector"], **changes))
    prepare(config, TABLE)
    monkeypatch.setattr(Declaring, "gives", FCOS.gives - {Need.EMBEDDINGS})
    with pytest.raises(
        ConfigError, match=r"loop\.min_distance: detector 'own:Declaring' gives no .* a distance in bits"
    ):
        prepare(config, TABLE)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategy.name": "localization_tightness"}, "needs proposals.*'fcos'"),
        ({"strategy.name": "learning_loss", "training.batch_size": 1}, r"training\.batch_size must be 2"),
        (
            {"strategy.name": "influence", "data": {"digit_scenes": {"pool": 9, "reference": 1, "empty": 0.9}}},
            "reference",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_training(changes, words):
    with pytest.raises(ConfigError, match=words):
        prepare(parse_config(small_tree(**changes)), TABLE)


@pytest.mark.parametrize("name", ["influence", "localization_stability", "localization_tightness", "learning_loss"])
def test_runs_are_the_same_byte_for_byte(tmp_path, name):
    changes = {"strategy": {"name": name}, "detector.name": "faster_rcnn", "loop.rounds": 2}
    if name == "influence":
        changes["strategy"] = {"name": name, "images": 20, "score_threshold": 0.05}
    for out in ("a", "b"):
        run_experiment(parse_config(small_tree(**changes)), tmp_path / out, TABLE)
    with read_ledger(tmp_path / "a") as a, read_ledger(tmp_path / "b") as b:
        assert a.charges() == b.charges()
        assert [r.metrics for r in a.rounds()] == [r.metrics for r in b.rounds()]
