"""Reading what a run kept: errors say which keys to set."""

import numpy as np
import pytest

from alloop.errors import ConfigError, DamagedFileError
from alloop.evaluation.detections_file import detections_to_bytes
from alloop.evaluation.matching import matched_detections
from alloop.ledger.store import open_ledger
from alloop.loop.round_files import detections_path
from alloop.results.kept_detections import kept_detections
from alloop.results.runs import read_run
from tests.support.resamples import random_data
from tests.support.runs import write_run

TRUTH, FOUND = random_data(np.random.default_rng(5), 3, (0.25, 0.5))


def run_with(folder, groups):
    write_run(folder, "random", 0, [0.1])
    with open_ledger(folder) as ledger:
        kept = matched_detections(TRUTH, FOUND, list("abc"), dict(zip(sorted(TRUTH), groups, strict=bool(groups))))
        ledger.store(detections_path(0), detections_to_bytes(kept), 0)
    return read_run(folder)


def test_what_was_kept_is_read(tmp_path):
    assert kept_detections(run_with(tmp_path / "r", "aba"), 0).groups == ("a", "b", "a")


def test_a_run_that_kept_nothing_is_told_the_keys(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1])
    with pytest.raises(
        ConfigError, match=r"r kept no test detections .* evaluation\.keep_detections: true .*data\.groups"
    ):
        kept_detections(read_run(tmp_path / "r"), 0)


def test_a_run_without_groups_is_told_the_keys(tmp_path):
    run = run_with(tmp_path / "r", "")
    with pytest.raises(ConfigError, match=r"have no groups; set one of data\.groups\.field.*pattern: '\^\.\*\$'"):
        kept_detections(run, 0)


def test_one_group_gives_no_interval(tmp_path):
    run = run_with(tmp_path / "r", ["v1"] * 3)
    with pytest.raises(ConfigError, match="in one group, 'v1'"):
        kept_detections(run, 0)


def test_a_changed_file_is_refused(tmp_path):
    run = run_with(tmp_path / "r", "aba")
    path = tmp_path / "r" / detections_path(0)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedFileError, match=r"round_000\.npz: expected sha256"):
        kept_detections(run, 0)
