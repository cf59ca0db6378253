"""The chart of a comparison is one that a notebook shows."""

import io

import numpy as np
import pytest
from PIL import Image

import alloop
from alloop.results.compare import compare_runs
from tests.support.runs import write_study


@pytest.fixture
def comparison(tmp_path):
    return compare_runs(write_study(tmp_path / "study"))


def lines(drawn):
    return {line.get_label(): line.get_xydata() for line in drawn.axes[0].get_lines()}


def test_it_draws_the_metric_over_what_was_paid(comparison):
    drawn = alloop.plot(comparison)
    curves = lines(drawn)
    runs = [run for run in comparison.runs if run.strategy == "entropy"]
    expected = np.mean([np.stack(run.curve("ap"), axis=1) for run in runs], axis=0)
    assert np.allclose(curves["entropy"], expected)
    assert {"random", "entropy"} <= curves.keys()
    assert "boxes paid" in drawn.axes[0].get_xlabel()


def test_another_metric_can_be_drawn(comparison):
    assert "AP50" in comparison.plot("ap50").axes[0].get_ylabel()
    with pytest.raises(KeyError):
        alloop.plot(comparison, "voc_ap50")


def test_a_notebook_shows_it_and_it_can_be_saved(comparison, tmp_path):
    drawn = comparison.plot()
    drawn.axes[0].set_title("changed before it is shown")
    drawn.savefig(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
    with Image.open(io.BytesIO(drawn._repr_png_())) as shown:
        assert shown.format == "PNG"
        assert len(np.unique(np.asarray(shown.convert("RGB")).reshape(-1, 3), axis=0)) > 10, "something is drawn"


def test_a_run_draws_itself_and_has_its_rounds(comparison):
    run = comparison.runs[0]
    opened = alloop.open_run(run.folder)
    curves = lines(opened.plot("ap50"))
    drawn = np.stack(run.curve("ap50"), axis=1)
    assert any(curve.shape == drawn.shape and np.allclose(curve, drawn) for curve in curves.values())
    assert list(opened.to_frame()["boxes"]) == [record.boxes for record in run.rounds]
