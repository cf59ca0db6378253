"""A run gives the same bytes whatever its cache folder holds, and none of its files is needed."""

import shutil

import pytest
import yaml

from alloop.config import parse_config
from alloop.data.cache_folder import CacheFolder
from alloop.errors import AlloopError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.progress import Progress
from strategies import TABLE
from tests.support import small_tree
from tests.support.frozen import random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return random_weights("mobilenet_v3_small", tmp_path_factory.mktemp("weights"))


def config(weights, **changes):
    frozen = {"detector.backbone": "mobilenet_v3_small", "detector.weights": weights, "loop.rounds": 2}
    return parse_config(small_tree(**frozen | changes))


def record(folder):
    with read_ledger(folder) as ledger:
        rounds = [(r.round, r.images, r.boxes, r.metrics) for r in ledger.rounds()]
        models = [sha256 for _, sha256, step in ledger.files() if step is None]
        return models, rounds, ledger.charges(), ledger.selections()


@pytest.fixture(scope="module")
def straight(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    run_experiment(config(weights), out, TABLE)
    return out


def entries(folder):
    return [path for path in folder.glob("??/*") if path.is_file()]


def test_an_empty_warm_damaged_and_full_cache_give_the_same_run(straight, weights, tmp_path):
    expected = record(straight)
    kept = tmp_path / "cache"
    shutil.copytree(straight / "cache", kept)
    assert len(entries(kept)) > 30
    for path in entries(kept)[::3]:
        path.write_bytes(path.read_bytes()[:70] + b"garbage")
    run_experiment(config(weights), tmp_path / "damaged", TABLE, cache=kept)
    assert record(tmp_path / "damaged") == expected
    run_experiment(config(weights), tmp_path / "warm", TABLE, cache=straight / "cache")
    assert record(tmp_path / "warm") == expected
    run_experiment(config(weights, **{"training.cache_gib": 1e-5}), tmp_path / "full", TABLE)
    assert record(tmp_path / "full") == expected
    assert len(entries(tmp_path / "full" / "cache")) < len(entries(kept)) / 2


def test_a_run_that_stops_anywhere_in_its_cache_goes_on_to_the_same_bytes(straight, weights, tmp_path, monkeypatch):
    """Every fifteenth write into the cache is the last one of its process; some of them leave half a file."""
    out, writes, stops = tmp_path / "run", 0, 0
    put = CacheFolder.put

    class Stopped(BaseException):
        pass

    def stopping(self, key, parts):
        nonlocal writes
        writes += 1
        if writes % 15 == 0:
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            (path if writes % 2 else path.with_name(".1-1-1.tmp")).write_bytes(b"half an entry")
            raise Stopped
        put(self, key, parts)

    monkeypatch.setattr(CacheFolder, "put", stopping)
    while True:
        try:
            run_experiment(config(weights), out, TABLE)
            break
        except Stopped:
            stops += 1
    assert stops >= 2
    assert record(out) == record(straight)


def test_deleting_the_cache_while_a_run_uses_it_changes_nothing(straight, weights, tmp_path, monkeypatch):
    get, reads = CacheFolder.get, 0

    def deleting(self, key):
        nonlocal reads
        reads += 1
        if reads % 40 == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
        return get(self, key)

    monkeypatch.setattr(CacheFolder, "get", deleting)
    run_experiment(config(weights), tmp_path / "run", TABLE)
    assert reads > 80
    assert record(tmp_path / "run") == record(straight)


def test_frozen_features_are_part_of_what_a_run_is(straight, weights, tmp_path):
    with pytest.raises(AlloopError, match="frozen_features"):
        run_experiment(config(weights, **{"training.frozen_features": "off"}), straight, TABLE)
    out = tmp_path / "half"
    run_experiment(config(weights, **{"training.frozen_features": "float16"}), out, TABLE)
    assert record(out)[0] != record(straight)[0]
    with read_ledger(out) as ledger:
        assert yaml.safe_load(ledger.facts().config)["training"]["frozen_features"] == "float16"


@pytest.mark.parametrize(("sides", "expected"), [([48, 64], True), ([], False)])
def test_a_run_says_when_its_training_keeps_no_features(weights, tmp_path, capsys, sides, expected):
    changes = {"training.short_sides": sides, "loop.rounds": 1, "training.iterations": 1}
    run_experiment(config(weights, **changes), tmp_path, TABLE, progress=Progress())
    assert ("keeps no features" in capsys.readouterr().err) == expected


def test_a_teacher_reads_the_features_of_unlabeled_images_and_any_cache_gives_the_same_run(weights, tmp_path):
    teacher = {"unlabeled_ratio": 1, "threshold": 0.06, "burn_in": 0.2}
    taught = config(weights, **{"detector.name": "faster_rcnn", "training.semi_supervised": teacher})
    run_experiment(taught, tmp_path / "straight", TABLE)
    kept = tmp_path / "straight" / "cache"
    run_experiment(taught, tmp_path / "warm", TABLE, cache=kept)
    run_experiment(taught, tmp_path / "empty", TABLE, cache=tmp_path / "elsewhere")
    for path in entries(kept)[::2]:
        path.unlink()
    run_experiment(taught, tmp_path / "half", TABLE, cache=kept)
    expected = record(tmp_path / "straight")
    assert all(record(tmp_path / name) == expected for name in ("warm", "empty", "half"))
