"""Losses in the report: one line a training, bounded in size, terms named, and nothing where nothing was kept."""

import re

import pytest

from alloop.errors import DamagedFileError
from alloop.ledger.audit import audit
from alloop.ledger.store import open_ledger
from alloop.loop.round_files import losses_path
from alloop.report.losses import MOST_POINTS, draw_losses, draw_terms, thinned
from alloop.report.page import write_report
from alloop.report.style import svg
from alloop.results.compare import compare_runs
from alloop.results.losses import Losses, read_losses
from tests.support.runs import write_study


def kept(folder, round_, data):
    with open_ledger(folder) as ledger:
        ledger.store(losses_path(round_), data, round_)


def titles(folder):
    (page, *_) = write_report(compare_runs([folder]), folder / "report.html", "t")
    return re.findall("<h2>Training: (.*)</h2>", page.read_text())


def test_the_report_draws_what_there_is(tmp_path):
    study = write_study(tmp_path / "study")
    assert titles(study) == [], "runs of older versions kept none"
    kept(study / "entropy_seed1", 1, b'step,lr,loss,a,"b, c"\n1,0.1,3,1,2\n2,0.1,2,2,\n')
    assert titles(study) == ["loss of each round"]
    assert titles(study / "entropy_seed1") == ["loss of each round", "terms of the loss in round 1"]
    with open_ledger(study / "entropy_seed1") as ledger:
        assert not any("losses" in finding for finding in audit(ledger))
        found = read_losses(ledger, 1)
        assert (found.steps, found.total, dict(found.terms)) == (
            [1, 2],
            [3.0, 2.0],
            {"a": [1.0, 2.0], "b, c": [2.0, None]},
        )
        ledger.store(losses_path(1), b"step,lr,loss\n1,0.1\n", 1)
        with pytest.raises(DamagedFileError, match=r"round_001\.csv: cannot be read as losses"):
            read_losses(ledger, 1)


def test_a_line_keeps_its_mean_and_its_end_with_few_points():
    steps, values = thinned((range(1, 1001), [float(k % 2) for k in range(1000)]), MOST_POINTS)
    assert len(steps) == len(values) == MOST_POINTS
    assert steps[-1] == 1000
    assert sum(values) / len(values) == pytest.approx(0.5)
    assert thinned(([5], [2.0]), MOST_POINTS) == ([5], [2.0])


def test_a_study_of_17_strategies_and_5_seeds_stays_small():
    line = [1 / (k + 1) for k in range(200)]
    groups = {f"s{k}": [Losses(r, range(200), line, {}) for _ in range(5) for r in range(6)] for k in range(17)}
    assert len(svg(draw_losses(groups), "all")) < 1_000_000
    few = draw_losses({"one": [Losses(0, [1, 2], [9.0, -1.0], {})]})
    assert few.axes[0].get_ylim()[0] == -1.0, "a loss below 0 is shown"
    figure = draw_terms(Losses(0, [1, 2], [9.0, 8.0], {"a": [4.0, 4.0], "late": [None, 4.0]}))
    assert [list(drawn.get_xdata()) for drawn in figure.axes[0].get_lines()] == [[1, 2], [1, 2], [2]]
