"""`training.start: previous` goes on with the detector of the round before; `scratch` starts every round anew."""

import pytest
from safetensors.numpy import load

from alloop.config import parse_config
from alloop.errors import ConfigError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare, training_key
from alloop.loop.round_files import model_path, model_sha256
from alloop.progress import Progress
from strategies import TABLE
from tests.support import small_tree


class StoppedError(Exception):
    """The run was stopped."""


class StopAfter(Progress):
    """Stops a run when it reports that a round is done."""

    def __init__(self, round_):
        super().__init__(quiet=True)
        self._words = f"round {round_} of"

    def say(self, text):
        if text.startswith(self._words):
            raise StoppedError


def run(folder, progress=None, **changes):
    """Run three rounds and return the hash of the model of each."""
    config = parse_config(small_tree(**{"strategy.name": "random", **changes}))
    run_experiment(config, folder, TABLE, progress=progress)
    with read_ledger(folder) as ledger:
        return [model_sha256(ledger, round_) for round_ in range(3)]


def weights(folder, round_):
    return load((folder / model_path(round_)).read_bytes())


def distance(folder, round_):
    """Return the squared distance of the weights of a round to those of round 0."""
    first, second = weights(folder, 0), weights(folder, round_)
    return sum(float(((first[name] - second[name]) ** 2).sum()) for name in first)


def test_a_round_that_learns_nothing_keeps_the_detector_of_the_round_before(tmp_path):
    still = {"training.lr": 1e-30, "training.ema": 0.0}
    run(tmp_path / "previous", **still, **{"training.start": "previous"})
    run(tmp_path / "scratch", **still)
    for round_ in (1, 2):
        assert distance(tmp_path / "previous", round_) < 1e-40
        assert distance(tmp_path / "scratch", round_) > 0.1, "the heads are drawn anew in every round"


def test_the_first_round_is_the_same_and_later_ones_are_closer_to_it(tmp_path):
    previous = run(tmp_path / "previous", **{"training.start": "previous"})
    scratch = run(tmp_path / "scratch")
    assert previous[0] == scratch[0]
    assert previous[1] != scratch[1]
    assert distance(tmp_path / "previous", 1) < distance(tmp_path / "scratch", 1)


@pytest.mark.parametrize("round_", [0, 1])
def test_a_run_that_is_stopped_ends_with_the_same_bytes(tmp_path, round_):
    whole = run(tmp_path / "whole", **{"training.start": "previous"})
    with pytest.raises(StoppedError):
        run(tmp_path / "stopped", StopAfter(round_), **{"training.start": "previous"})
    assert run(tmp_path / "stopped", **{"training.start": "previous"}) == whole


def test_what_a_training_starts_from_is_part_of_its_identity(tmp_path):
    run(tmp_path / "run", **{"training.start": "previous"})
    with pytest.raises(ConfigError, match=r"training.start = 'previous', the config now says 'scratch'"):
        run(tmp_path / "run")
    experiment = prepare(parse_config(small_tree()), TABLE)
    keys = [training_key(experiment, 1, {}, {}, start) for start in (None, "a", "b")]
    assert len({str(key) for key in keys}) == 3
    assert "start" not in keys[0]["training"], "a key that has no effect leaves the hashes of older models as they were"


def test_runs_of_a_study_share_a_model_only_where_they_came_the_same_way(tmp_path):
    for name in ("random", "entropy"):
        tree = {"strategy.name": name, "training.start": "previous"}
        config = parse_config(small_tree(**tree))
        run_experiment(config, tmp_path / name, TABLE, shared=tmp_path / "shared")
        alone = run(tmp_path / f"alone_{name}", **tree)
        with read_ledger(tmp_path / name) as ledger:
            assert [model_sha256(ledger, round_) for round_ in range(3)] == alone
