"""The chart of a comparison is one that a notebook shows."""

import io

import numpy as np
import pytest
from PIL import Image

import alloop
from alloop.report.notebook import chart
from alloop.results.compare import compare_runs
from tests.support.runs import write_study


@pytest.fixture
def comparison(tmp_path):
    return compare_runs(write_study(tmp_path / "study"))


def lines(drawn):
    return {line.get_label(): line.get_xydata() for line in drawn.figure.axes[0].get_lines()}


def test_a_chart_draws_the_metric_over_what_was_paid(comparison):
    drawn = alloop.chart(comparison)
    curves = lines(drawn)
    runs = [run for run in comparison.runs if run.strategy == "entropy"]
    expected = np.mean([np.stack(run.curve("ap"), axis=1) for run in runs], axis=0)
    assert np.allclose(curves["entropy"], expected)
    assert {"random", "entropy"} <= curves.keys()
    assert "boxes paid" in drawn.figure.axes[0].get_xlabel()


def test_another_metric_can_be_drawn(comparison):
    assert "AP50" in chart(comparison, "ap50").figure.axes[0].get_ylabel()
    with pytest.raises(KeyError):
        chart(comparison, "voc_ap50")


def test_a_notebook_and_a_file_get_the_same_picture(comparison, tmp_path):
    drawn = chart(comparison)
    drawn.save(tmp_path / "curve.png")
    data = drawn._repr_png_()
    with Image.open(io.BytesIO(data)) as shown, Image.open(tmp_path / "curve.png") as saved:
        assert shown.format == "PNG"
        assert np.array_equal(np.asarray(shown), np.asarray(saved))
        assert len(np.unique(np.asarray(shown.convert("RGB")).reshape(-1, 3), axis=0)) > 10, "something is drawn"
