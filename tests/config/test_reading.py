"""A config: defaults are written out, paths become absolute, and each wrong key is named with its file."""

import dataclasses
import subprocess
import sys
import warnings
from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from alloop.config import load_config, parse_config
from alloop.config.reading import changed, with_all_labels
from alloop.config.tables import NETWORKS
from alloop.errors import ConfigError
from alloop.loop.beginning import refuse_other_config
from alloop.loop.parts import make_detector
from alloop.plugins import parameter_names, plugin_class
from alloop.query import Need
from tests.support import small_tree


@dataclasses.dataclass(frozen=True)
class Own:
    """A detector of somebody else's, with a file among its parameters."""

    labels: Path
    short_side: int = 64
    long_side: int = 96
    depth: int = 3

    gives: ClassVar = frozenset({Need.DETECTIONS})

    def build(self, classes):
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Named(Own):
    """A parameter with the name of a key of the block."""

    labels: Path = Path()
    name: str = "x"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "own_detectors", sys.modules[__name__])


def written(folder, **changes):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(small_tree(**changes)))
    return path


def test_a_detector_is_a_block_with_a_name():
    with pytest.raises(ConfigError, match=r"config: detector: .*found 'fcos'"):
        parse_config({**small_tree(), "detector": "fcos"})


@pytest.mark.parametrize("name", NETWORKS)
def test_every_default_of_the_detector_is_written_out(name):
    config = parse_config({**small_tree(), "detector": {"name": name}})
    recorded = yaml.safe_load(config.to_yaml())
    assert list(recorded["detector"]) == ["name", *parameter_names(plugin_class("detector", name, NETWORKS))]
    assert recorded["detector"]["short_side"] == 800
    assert parse_config(recorded) == config


def test_a_detector_of_ones_own_has_its_own_parameters(tmp_path):
    block = {"name": "own_detectors:Own", "labels": "names.txt"}
    config = load_config(written(tmp_path, detector=block))
    assert config.detector.parameters["labels"] == str(tmp_path / "names.txt")
    assert make_detector(config) == Own(tmp_path / "names.txt")
    with pytest.raises(ConfigError, match=r"detector\.dept: 'own_detectors:Own' has no such.*did you mean 'depth'"):
        parse_config(small_tree(detector={**block, "dept": 4}))
    with pytest.raises(ConfigError, match=r"detector\.labels: 'own_detectors:Own' needs this parameter"):
        parse_config(small_tree(detector={"name": "own_detectors:Own"}))


def test_a_parameter_cannot_have_the_name_of_a_key_of_the_block():
    with pytest.raises(ConfigError, match="has a parameter `name`, which every detector block has already"):
        parse_config(small_tree(detector={"name": "own_detectors:Named"}))


def test_a_parameter_of_another_detector_is_ignored_with_one_warning(tmp_path):
    path = written(tmp_path, **{"detector.proposals": 50, "detector.head_width": 32})
    with pytest.warns(UserWarning, match="fcos ignores") as warned:
        config = load_config(path)
    assert len(warned) == 1
    assert "head_width (faster_rcnn has it), proposals (faster_rcnn has it)" in str(warned[0].message)
    assert "proposals" not in config.detector.parameters
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert changed(config, {"detector.name": "faster_rcnn"}).detector.parameters["proposals"] == 50
        assert parse_config(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detector.proposal": 5}, r"config\.yaml: detector\.proposal: 'fcos' has no such parameter"),
        ({"detector.tower_conv": 5}, "did you mean 'tower_convs'"),
        ({"detector.channels": 33}, r"detector\.channels: .*multiple of 32.*33"),
        ({"detector.name": "fcso"}, r"config\.yaml: detector\.name: 'fcso' is not in the table .did you mean 'fcos'"),
        ({"detector.name": 3}, r"detector\.name"),
        ({"loop.ronds": 5}, r"config\.yaml: loop\.ronds: unknown key .did you mean 'rounds'"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, **changes))


def test_every_path_of_a_config_is_relative_to_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("PICTURES", "shown")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep").mkdir()
    data = {"train": {"annotations": "a.json", "images": "${PICTURES}/x"}, "test": {"annotations": "~/b.json"}}
    changes = {"data": data, "detector.weights": "w.safetensors", "loop.seed_images": "ids.txt"}
    config = load_config(written(tmp_path / "deep", **changes))
    assert config.data.train.annotations == tmp_path / "deep" / "a.json"
    assert config.data.train.images == tmp_path / "shown" / "x"
    assert config.data.test.annotations == Path("~/b.json").expanduser()
    assert config.detector.parameters["weights"] == str(tmp_path / "deep" / "w.safetensors")
    assert config.loop.seed_images == tmp_path / "deep" / "ids.txt"
    assert (
        load_config(written(tmp_path, **{"detector.weights": "imagenet"})).detector.parameters["weights"] == "imagenet"
    )
    monkeypatch.delenv("PICTURES")
    with pytest.raises(ConfigError, match=r"config\.yaml: data\.train\.images: .*PICTURES, which is not set"):
        load_config(tmp_path / "deep" / "config.yaml")


def test_changed_keys_are_validated_and_the_rest_stays():
    config = parse_config(small_tree())
    other = changed(config, {"loop.rounds": 7, "strategy": {"name": "random"}})
    assert (other.loop.rounds, other.strategy.parameters) == (7, {})
    assert changed(other, {"loop.rounds": 3, "strategy": {"name": "entropy"}}) == config
    whole = with_all_labels(config, 24)
    assert (str(whole.loop.seed_set), whole.loop.rounds, whole.loop.budget) == ("24 images", 1, None)
    for key, value, words in [
        ("loop.ronds", 3, "did you mean 'rounds'"),
        ("loop.rounds", 0, r"loop\.rounds"),
        ("random_seed.x", 1, "random_seed is not a block"),
    ]:
        with pytest.raises(ConfigError, match=words):
            changed(config, {key: value})


def flat_union(tree):
    """A config as alloop 0.1.0 recorded it: the parameters of all detectors and of all oracles, used or not."""
    union = {}
    for name in NETWORKS:
        union |= parse_config({**tree, "detector": {"name": name}}).detector.parameters
    simulated = {"name": "simulated", "show": True, "rates": {"image": 0.0, "box": 1.0, "accepted": None}}
    people = {"folder": None, "format": "coco", "url": None, "project": None, "policy": "newest"}
    return {**tree, "detector": {**union, **tree["detector"]}, "oracle": {**simulated, **people}}


def test_a_run_that_recorded_the_keys_of_all_detectors_goes_on_without_a_warning(tmp_path):
    recorded = parse_config(flat_union(small_tree()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse_other_config(tmp_path, recorded.to_yaml(), parse_config(small_tree()))
        other = parse_config(small_tree(**{"detector.tower_convs": 2}))
        with pytest.raises(ConfigError, match=r"detector\.tower_convs = 1.*now says 2"):
            refuse_other_config(tmp_path, recorded.to_yaml(), other)


def test_hashes_cover_the_parameters_of_all_detectors_as_they_did():
    tree = flat_union(small_tree(**{"detector.proposals": 50, "detector.anchor_size": 12}))
    expected = {key: float(value) if key == "anchor_size" else value for key, value in tree["detector"].items()}
    del expected["weights_sha256"], expected["box_start"]  # they came later, and here they change no result
    block = parse_config(small_tree(**{"detector.proposals": 50, "detector.anchor_size": 12})).detector
    assert block.with_siblings() == expected
    assert isinstance(block.with_siblings()["anchor_size"], float)  # its JSON is hashed


def test_hashes_accept_any_value_of_an_ignored_key_and_a_detector_from_elsewhere_has_its_own_alone():
    assert parse_config(small_tree(**{"detector.proposals": 5})).detector.with_siblings()["proposals"] == 5
    own = parse_config(small_tree(detector={"name": "own_detectors:Own", "labels": "/x"})).detector
    assert own.with_siblings() == own.used() == own.model_dump(mode="json")


@pytest.mark.parametrize(
    ("oracle", "words"),
    [
        ({"name": "foldr"}, r"oracle\.name: 'foldr' is not in the table .did you mean 'folder'"),
        ({"name": "folder", "foldr": "x"}, r"oracle\.foldr: 'folder' has no such parameter .did you mean 'folder'"),
        ({"blind": 2}, r"oracle\.blind: .*less than or equal to 1.*found 2"),
        ({"rates": {"bx": 1}}, r"oracle\.rates\.bx"),
        ({"shwo": True}, r"oracle\.shwo: 'simulated' has no such parameter.*did you mean 'show'"),
    ],
)
def test_a_wrong_key_of_the_oracle_is_named(oracle, words):
    with pytest.raises(ConfigError, match=words):
        parse_config(small_tree(oracle=oracle))


def test_a_config_is_read_without_torch(tmp_path):
    code = (
        "import sys; from alloop.config import load_config; config = load_config(sys.argv[1]);"
        "print(sorted(config.detector.make().gives)[0], 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, written(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["detections", "False"]


def test_an_error_between_two_blocks_is_one_sentence():
    tree = small_tree(oracle={"name": "folder", "folder": "x"})
    with pytest.raises(ConfigError, match=r"^config: oracle: people need image files"):
        parse_config(tree)


def test_a_detector_outside_needs_no_block_training():
    tree = small_tree()
    del tree["training"]
    config = parse_config({**tree, "detector": {"name": "external"}})
    assert parse_config(yaml.safe_load(config.to_yaml())) == config
    assert config.detector.parameters == {"command": None, "time_limit_hours": 24.0, "labeled_as": []}
