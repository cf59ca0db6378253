"""`alloop run`: figures, resuming, and mistakes in the config."""

import re

import pytest

from tests.support.commands import ROOT, call


def test_run_prints_the_curve_and_resumes(finished):
    result = call("run", finished / "c.yaml", "--out", finished / "run", "--quiet")
    assert re.search(r"^ +1 +10 +\d+ +0\.\d{3}", result.output, re.MULTILINE)
    assert "finished" in call("status", finished / "run").output


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loop.ronds=3", "did you mean 'rounds'"),
        ("training.lr=fast", "training.lr"),
        ("training.lr=.nan", "training.lr"),
        ("loop.seed_set=0", "loop.seed_set"),
        ("strategy.name=entropi", "did you mean 'entropy'"),
        ("detector.channels=33", "multiple of 32"),
        ("training.epochs=3", "either epochs or iterations"),
        ("loop.budget=2 images", "does not even pay"),
        ("nonsense", "key=value"),
        ("random_seed=-1", "random_seed"),
    ],
)
def test_config_mistakes_exit_2_in_one_paragraph(finished, override, words):
    result = call("run", finished / "c.yaml", "--set", override, "--out", finished / "never", code=2)
    assert words in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert not (finished / "never" / "run.db").exists()


def test_missing_files_and_variables_are_named(tmp_path, monkeypatch):
    assert "nowhere.yaml" in call("run", tmp_path / "nowhere.yaml", code=2).output
    monkeypatch.delenv("ALLOOP_DATA", raising=False)
    assert "ALLOOP_DATA" in call("run", ROOT / "configs/bccd_fcos.yaml", code=2).output
    assert "run.db" in call("status", tmp_path, code=2).output
    assert "none.json is not in" in call("check-data", tmp_path / "none.json", code=2).output
