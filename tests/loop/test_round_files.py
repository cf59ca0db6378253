"""Kept test detections and losses: recorded, the same bytes after any stop and from shared models."""

import json

import pytest

from alloop.config import parse_config
from alloop.errors import DamagedFileError
from alloop.evaluation.detections_file import detections_from_bytes
from alloop.ledger.audit import audit
from alloop.ledger.store import Ledger, read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare, training_key
from alloop.loop.round_files import detections_path, losses_path
from alloop.results.losses import kept_losses
from alloop.results.runs import open_run
from strategies import TABLE
from tests.support import small_tree

SCENES = {"pool": 24, "reference": 4, "test": 8, "max_digits": 3, "video": 2}


def config(**changes):
    tree = small_tree(
        **{
            "data": {"digit_scenes": SCENES, "groups": {"folder": True}},
            "evaluation.keep_detections": True,
            "loop.rounds": 2,
            **changes,
        }
    )
    return parse_config(tree)


def kept(folder):
    """The recorded hashes of the detections and losses of a run that agrees with its record."""
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        return {path: sha256 for path, sha256, _ in ledger.files() if path.startswith(("detections/", "losses/"))}


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    folder = tmp_path_factory.mktemp("straight")
    run_experiment(config(), folder, TABLE)
    return folder


def test_each_round_keeps_its_detections_with_groups_and_limit(straight):
    assert list(kept(straight)) == [path(round_) for path in (detections_path, losses_path) for round_ in (0, 1)]
    path = straight / detections_path(1)
    one = detections_from_bytes(path.read_bytes(), path)
    assert one.class_names == tuple("0123456789")
    assert len(one.image_ids) == 8
    assert len(set(one.groups)) == 4
    assert [one.groups[0], one.groups[2]] == [one.groups[1], one.groups[3]]
    assert 0 < len(one.scores) <= 80


def test_they_are_not_kept_by_default_and_change_nothing_else(straight, tmp_path):
    run_experiment(config(**{"evaluation.keep_detections": False}), tmp_path, TABLE)
    assert list(kept(tmp_path)) == [losses_path(0), losses_path(1)]
    with read_ledger(tmp_path) as without, read_ledger(straight) as with_:
        assert [r.metrics for r in without.rounds()] == [r.metrics for r in with_.rounds()]
        assert without.files() == [path for path in with_.files() if not path[0].startswith("detections/")]


def test_the_key_of_a_shared_model_is_as_before_where_nothing_is_kept():
    keys = [
        training_key(prepare(config(**{"evaluation.keep_detections": keep}), TABLE), 0, {}, {})["evaluation"]
        for keep in (False, True)
    ]
    assert keys == [{"max_detections": None}, {"max_detections": None, "keep_detections": True}]


class StoppedError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("file", [detections_path(0), detections_path(1), losses_path(1)])
def test_a_run_that_is_stopped_beside_the_file_ends_with_the_same_bytes(straight, tmp_path, file, after):
    with pytest.MonkeyPatch.context() as patch:
        store = Ledger.store

        def stopping(self, path, *rest):
            if path == file and not after:
                raise StoppedError
            result = store(self, path, *rest)
            if path == file:
                raise StoppedError
            return result

        patch.setattr(Ledger, "store", stopping)
        with pytest.raises(StoppedError):
            run_experiment(config(), tmp_path, TABLE)
    run_experiment(config(), tmp_path, TABLE)
    assert kept(tmp_path) == kept(straight)


def test_shared_models_bring_their_detections_and_damaged_ones_are_refused(straight, tmp_path):
    shared = tmp_path / "shared"
    run_experiment(config(), tmp_path / "a", TABLE, shared=shared)
    run_experiment(config(), tmp_path / "b", TABLE, shared=shared)
    assert kept(tmp_path / "a") == kept(tmp_path / "b") == kept(straight)
    with read_ledger(tmp_path / "b") as ledger:
        assert all("train" not in record.timings for record in ledger.rounds()), "nothing was trained again"
    for kind in ("csv", "npz"):
        for path in shared.glob(f"*.{kind}"):
            path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(DamagedFileError, match=rf"\.{kind}: expected sha256"):
            run_experiment(config(), tmp_path / kind, TABLE, shared=shared)


def test_a_shared_model_of_an_older_version_has_no_losses_and_its_run_none(tmp_path):
    shared = tmp_path / "shared"
    run_experiment(config(), tmp_path / "a", TABLE, shared=shared)
    for path in shared.glob("*.json"):
        record = json.loads(path.read_text())
        del record["losses_sha256"]
        path.write_text(json.dumps(record))
    run_experiment(config(), tmp_path / "b", TABLE, shared=shared)
    assert list(kept(tmp_path / "b")) == [detections_path(0), detections_path(1)]
    assert kept_losses(open_run(tmp_path / "b")) == []
    assert [losses.round for losses in kept_losses(open_run(tmp_path / "a"))] == [0, 1]
