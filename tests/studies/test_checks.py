"""A study checks every run before the first one trains."""

import pytest

from alloop.config.reading import load_config, parse_config
from alloop.errors import ConfigError, DataError
from alloop.studies.grid import run_study
from strategies import TABLE
from tests.support import small_tree
from tests.support.projects import write_project

FAST = {"training.iterations": 1, "loop.rounds": 1}


def trained(folder):
    return sorted(path.parent.name for path in folder.rglob("run.db"))


def test_nothing_is_trained_where_one_strategy_cannot_be_served(tmp_path):
    config = parse_config(small_tree(**FAST))
    with pytest.raises(ConfigError, match=r"^tfdp_seed0: .*needs masks"):
        run_study(config, tmp_path, TABLE, strategies=["entropy", "tfdp"], seeds=[0, 1])
    assert trained(tmp_path) == []


def test_nothing_is_trained_where_one_setting_cannot_be(tmp_path):
    config = parse_config(small_tree(**FAST))
    with pytest.raises(ConfigError, match=r"^seed_set=99/random_seed0: .*99 images are more than the 24"):
        run_study(config, tmp_path, TABLE, strategies=[], seeds=[0], vary={"loop.seed_set": [6, 99]})
    assert trained(tmp_path) == []


def test_nothing_is_trained_where_the_data_are_wrong(tmp_path):
    config = write_project(tmp_path, **FAST)
    (tmp_path / "data" / "instances_test.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_test\.json: expected a COCO JSON file"):
        run_study(load_config(config), tmp_path / "out", TABLE, strategies=[], seeds=[0])
    assert trained(tmp_path / "out") == []


def test_runs_that_are_finished_are_not_checked_again(tmp_path):
    path = write_project(tmp_path, **FAST)
    config = load_config(path)
    assert run_study(config, tmp_path / "out", TABLE, strategies=["entropy"], seeds=[0]) == []
    (tmp_path / "data" / "instances_pool.json").unlink()
    assert run_study(config, tmp_path / "out", TABLE, strategies=["entropy"], seeds=[0]) == []
    with pytest.raises(ConfigError, match=r"^data\.train\.annotations: there is no "):
        run_study(config, tmp_path / "out", TABLE, strategies=["entropy"], seeds=[0, 1])


def test_data_that_runs_share_are_read_once(tmp_path, monkeypatch):
    from alloop.tasks import detection

    read, real = [], detection.load_splits
    monkeypatch.setattr(detection, "load_splits", lambda *a, **k: read.append(1) or real(*a, **k))
    monkeypatch.setattr("alloop.studies.grid.run_arms", lambda *_, **__: [])
    config = parse_config(small_tree(**FAST))
    run_study(config, tmp_path, TABLE, strategies=["entropy", "margin"], seeds=[0, 1, 2])
    assert len(read) == 1
