"""States kept along a training."""

from itertools import pairwise

import numpy as np

from alloop.config import parse_config
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.scorer import scoring_detector
from alloop.query import Need
from strategies import TABLE
from tests.support import small_tree

MASK_RCNN = {"detector.name": "mask_rcnn", "training.iterations": 6}


def fitted(folder, **changes):
    tree = small_tree(**MASK_RCNN, **{"strategy.name": "aum", "data.digit_scenes.pool": 10}, **changes)
    return parse_config(tree), scoring_detector(parse_config(tree), folder, TABLE)


def test_states_are_those_the_training_went_through(tmp_path):
    config, detector = fitted(tmp_path / "a", **{"training.snapshots": 3})
    assert detector.snapshots == 3
    assert Need.SNAPSHOTS in detector.gives
    with read_ledger(tmp_path / "a") as ledger:
        assert [path for path, _, _ in ledger.files(0)] == [
            "losses/round_000.csv",
            "models/round_000.safetensors",
            "snapshots/round_000_step_00000002.safetensors",
            "snapshots/round_000_step_00000004.safetensors",
        ]
        assert audit(ledger) == []
        truth = ledger.labeled()
    ids = sorted(truth)
    states = [[p.label_logits for p in detector.mask_pixels(ids, truth, k)] for k in range(3)]
    for earlier, later in pairwise(states):
        assert any(not np.array_equal(a, b) for a, b in zip(earlier, later, strict=True))
    again = [p.label_logits for p in detector.mask_pixels(ids, truth, 0)]
    assert all(np.array_equal(a, b) for a, b in zip(states[0], again, strict=True))
    run_experiment(load_config_of(config), tmp_path / "a", TABLE)  # finished: nothing is trained again


def load_config_of(config):
    from alloop.config.reading import with_all_labels

    return with_all_labels(config, 10)


def test_keeping_states_does_not_change_the_training(tmp_path):
    for name, snapshots in (("with", 3), ("without", 0)):
        tree = small_tree(**MASK_RCNN, **{"loop.rounds": 1, "training.snapshots": snapshots})
        run_experiment(parse_config(tree), tmp_path / name, TABLE)
    a, b = ((tmp_path / name / "models/round_000.safetensors").read_bytes() for name in ("with", "without"))
    assert a == b


def test_mask_pixels_lie_inside_their_boxes(tmp_path):
    _, detector = fitted(tmp_path / "a")
    with read_ledger(tmp_path / "a") as ledger:
        truth = ledger.labeled()
    for image_id, pixels in zip(truth, detector.mask_pixels(list(truth), truth, 0), strict=True):
        assert pixels.logits.shape[:2] == (int(truth[image_id].trainable.sum()), 10)
        assert pixels.truth.shape == pixels.label_logits.shape
        assert pixels.truth.any(axis=(1, 2)).all(), "the box of a digit holds its pixels"
        assert not pixels.truth.all(axis=(1, 2)).any(), "and pixels beside it"
