"""What a run and a study keep on disk."""

import pytest

from alloop import files
from alloop.config import parse_config
from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.studies.grid import run_study
from strategies import TABLE
from tests.support import small_tree

MASKS = {"detector.name": "mask_rcnn", "detector.weights": "none"}


def config_of(**changes):
    return parse_config(small_tree(**{"training.iterations": 2, **changes}))


def recorded(folder):
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        return [path for path, _, _ in ledger.files()], ledger.charges(), [r.metrics for r in ledger.rounds()]


@pytest.mark.parametrize("changes", [{}, {"training.start": "previous"}, {"strategy": {"name": "el2n"}, **MASKS}])
def test_only_the_last_model_stays_where_that_is_wanted(tmp_path, changes):
    run_experiment(config_of(**changes), tmp_path / "all", TABLE)
    run_experiment(config_of(**changes, **{"training.keep_models": "last"}), tmp_path / "last", TABLE)
    all_files, *booked = recorded(tmp_path / "all")
    files_, *booked_too = recorded(tmp_path / "last")
    assert booked == booked_too
    assert sum(path.startswith("models/") for path in all_files) == 3
    assert [path for path in files_ if path.startswith("models/")] == ["models/round_002.safetensors"]
    assert not any("round_000" in path or "round_001" in path for path in files_ if not path.startswith("losses/"))
    assert sorted(path.name for path in (tmp_path / "last" / "models").iterdir()) == ["round_002.safetensors"]


def test_it_may_be_changed_between_two_starts_and_a_run_that_grows_needs_the_last_model_alone(tmp_path):
    run_experiment(config_of(**{"loop.rounds": 2}), tmp_path / "run", TABLE)
    run_experiment(config_of(**{"loop.rounds": 3, "training.keep_models": "last"}), tmp_path / "run", TABLE)
    run_experiment(config_of(), tmp_path / "whole", TABLE)
    files_, *booked = recorded(tmp_path / "run")
    assert [path for path in files_ if not path.startswith("losses/")] == ["models/round_002.safetensors"]
    assert booked == list(recorded(tmp_path / "whole")[1:])


def study(folder):
    config = config_of(**{"loop.rounds": 2})
    assert run_study(config, folder, TABLE, strategies=["entropy"], seeds=[0]) == []
    models = [*folder.glob("*/models/round_*.safetensors"), *folder.glob("shared/*.safetensors")]
    return {path.relative_to(folder).as_posix(): path.stat() for path in models}


def test_a_study_holds_no_model_twice(tmp_path):
    found = study(tmp_path)
    assert len(found) == 7  # two rounds of two runs; round 0 is one model, shared, as are both of round 1
    assert len({stat.st_ino for stat in found.values()}) == 3
    first = {stat.st_ino for name, stat in found.items() if "round_000" in name}
    assert len(first) == 1


def test_without_hard_links_models_are_copied(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refused)
    found = study(tmp_path)
    assert len({stat.st_ino for stat in found.values()}) == len(found) == 7
    for path in tmp_path.glob("*_seed0"):
        recorded(path)


def test_a_copy_is_whole_or_not_there(tmp_path):
    source, target = tmp_path / "a", tmp_path / "deep" / "b"
    source.write_bytes(b"x" * 100)
    assert files.atomic_copy(source, target, b"x" * 100) == files.sha256_file(source)
    assert target.samefile(source)
    files.atomic_write(target, b"other")
    assert source.read_bytes() == b"x" * 100, "what replaces a file leaves the one that it was linked to"
    assert sorted(path.name for path in target.parent.iterdir()) == ["b"]
