"""A comparison in a notebook says what `alloop compare` says."""

import csv
import io
import sys
import types
from xml.etree import ElementTree as ET

import pytest

from alloop.errors import ConfigError
from alloop.report.numbers import to_csv
from alloop.results.compare import compare_runs, compared
from alloop.results.notebook import rounds_columns
from tests.support.runs import run, stored_study, write_run


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    return compare_runs(stored_study(tmp_path_factory.mktemp("study"), {"entropy": 0.05, "margin": 0.0}))


def tables_of(html):
    """The cells of each table; the text must be well-formed."""
    root = ET.fromstring(f"<div>{html}</div>")
    return [[["".join(c.itertext()) for c in row] for row in table.iter("tr")] for table in root.iter("table")]


def test_a_frame_has_the_rows_of_the_csv(comparison, monkeypatch):
    """Pandas is played by a fake here; the next test takes the real one."""
    fake = types.ModuleType("pandas")
    fake.DataFrame = dict
    monkeypatch.setitem(sys.modules, "pandas", fake)
    frame = comparison.to_frame()
    lines = list(csv.DictReader(io.StringIO(to_csv(comparison))))
    assert {len(column) for column in frame.values()} == {len(lines)} == {30}
    for name in ("strategy", "random_seed", "round", "images", "boxes"):
        assert [str(value) for value in frame[name]] == [line[name] for line in lines]
    assert [f"{value:.6f}" for value in frame["ap"]] == [line["ap"] for line in lines]
    assert frame["ap75"] == [None] * 30
    assert frame["paid"] == [float(boxes) for boxes in frame["boxes"]]
    assert frame["run"][0] == comparison.runs[0].name
    assert list(frame)[:8] == ["run", "strategy", "random_seed", "label_using", "round", "images", "boxes", "paid"]


def test_a_frame_of_pandas_has_these_columns(comparison):
    pytest.importorskip("pandas", reason="pandas is not installed: the real DataFrame is not tested")
    frame = comparison.to_frame()
    assert list(frame.columns) == list(rounds_columns(comparison))
    assert frame["ap"].tolist() == rounds_columns(comparison)["ap"]
    assert frame["ap75"].isna().all()


def test_a_metric_that_only_some_runs_have_is_missing_elsewhere(tmp_path):
    write_run(tmp_path / "a", "random", 0, [0.1, 0.2], metrics=("ap_at_100",))
    write_run(tmp_path / "b", "entropy", 0, [0.1, 0.3])
    found = rounds_columns(compare_runs(tmp_path))
    by_strategy = dict(zip(found["strategy"], found["ap_at_100"], strict=True))
    assert by_strategy == {"random": 0.2, "entropy": None}


def test_without_pandas_the_error_says_what_to_do(comparison, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"to_frame: needs the package pandas.*`pip install pandas`"):
        comparison.to_frame()


def test_the_html_has_every_verdict_and_every_run(comparison):
    verdicts, runs = tables_of(comparison._repr_html_())
    assert [row[0] for row in verdicts[1:]] == [versus.strategy for versus in comparison.versus]
    for row, versus in zip(verdicts[1:], comparison.versus, strict=True):
        assert row[1:3] == ["5", f"{versus.difference:+.3f}"]
        assert row[3] == f"{versus.interval[0]:+.3f} to {versus.interval[1]:+.3f}"
        assert row[5] == versus.verdict
    assert {row[5] for row in verdicts[1:]} == {"better", "inconclusive"}
    assert [row[0] for row in runs[1:]] == [one.name for one in comparison.runs]
    assert [row[-1] for row in runs[1:]] == [f"{one.rounds[-1].metrics['ap']:.3f}" for one in comparison.runs]


def test_names_are_escaped_and_a_lone_run_has_no_verdict():
    page = compared([run("<script>alert(1)</script>", [5, 9], [0.1, 0.2])], "ap")._repr_html_()
    assert "<script>" not in page
    assert "No strategy to compare with random yet." in page
    (runs,) = tables_of(page)
    assert runs[1][1] == "<script>alert(1)</script>"


def test_a_run_without_a_round_has_dashes(tmp_path):
    write_run(tmp_path / "r", "random", 0, [])
    (runs,) = tables_of(compare_runs(tmp_path)._repr_html_())
    assert runs[1][3:] == ["0", "-", "-", "-"]
