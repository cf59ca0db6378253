"""Pixels of a run lie in its cache folder, and neither the folder nor the reading ahead changes what the run is."""

import shutil
from dataclasses import replace

import pytest
import torch

from alloop.config import load_config, parse_config
from alloop.config.reading import changed
from alloop.data.images import FolderImages
from alloop.errors import AlloopError
from alloop.ledger.store import read_ledger
from alloop.loop.context import decoding_threads, pixel_caches
from alloop.loop.engine import run_experiment
from alloop.loop.experiment import prepare
from strategies import TABLE
from tests.support import small_tree
from tests.support.projects import write_project


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A run over image files, several training sizes among them."""
    changes = {"training.short_sides": [40, 64], "detector.short_side": 48, "detector.long_side": 80}
    return load_config(write_project(tmp_path_factory.mktemp("project"), **changes))


def record(out):
    with read_ledger(out) as ledger:
        models = [sha256 for _, sha256, step in ledger.files() if step is None]
        return models, [(r.round, r.boxes, r.metrics) for r in ledger.rounds()], ledger.charges(), ledger.selections()


@pytest.fixture(scope="module")
def straight(config, tmp_path_factory):
    out = tmp_path_factory.mktemp("straight") / "run"
    run_experiment(config, out, TABLE)
    return out


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("state", ["empty", "warm", "damaged", "tiny"])
def test_neither_the_cache_nor_the_threads_change_a_run(config, straight, tmp_path, threads, state):
    cache = tmp_path / "cache"
    if state in {"warm", "damaged"}:
        shutil.copytree(straight / "cache", cache)
    if state == "damaged":
        for path in sorted(cache.glob("??/*"))[::2]:
            path.write_bytes(path.read_bytes()[:-1])
    gib = 1e-5 if state == "tiny" else 1.0
    config = changed(config, {"training.cache_gib": gib, "training.decoding_threads": threads})
    run_experiment(config, tmp_path / "run", TABLE, cache=cache)
    assert record(tmp_path / "run") == record(straight)


def test_a_warm_cache_decodes_nothing(config, straight, tmp_path, monkeypatch):
    monkeypatch.setattr(FolderImages, "decode_at", lambda *_, **__: pytest.fail("decoded"))
    run_experiment(config, tmp_path / "run", TABLE, cache=straight / "cache")
    assert record(tmp_path / "run") == record(straight)


def test_a_run_goes_on_with_other_threads_and_not_with_another_decoder(config, straight):
    run_experiment(changed(config, {"training.decoding_threads": 5}), straight, TABLE)
    with pytest.raises(AlloopError, match=r"training\.decoding"):
        run_experiment(changed(config, {"training.decoding": "full"}), straight, TABLE)


def test_one_thread_reads_ahead_on_the_cpu_and_more_where_a_device_computes(monkeypatch):
    experiment = prepare(parse_config(small_tree()), TABLE)
    assert decoding_threads(experiment) == 1
    cuda = torch.device("cuda")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert decoding_threads(replace(experiment, device=cuda)) == 4
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert decoding_threads(replace(experiment, device=cuda)) == 8
    configured = replace(experiment, config=changed(experiment.config, {"training.decoding_threads": 3}))
    assert decoding_threads(configured) == 3


def test_splits_and_sizes_share_caches(config):
    caches = pixel_caches(prepare(config, TABLE))
    assert caches.training is not caches.pool
    assert caches.training.source is caches.pool.source
    same = pixel_caches(prepare(changed(config, {"training.short_sides": []}), TABLE))
    assert same.training is same.pool
