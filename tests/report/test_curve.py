"""The curve as a drawing."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from alloop.report.curve import draw
from alloop.report.numbers import to_json
from alloop.report.style import svg
from alloop.results.compare import compare_runs, compared
from alloop.results.forecasts import forecast_of
from tests.support.runs import run, write_run


def test_the_curve_of_a_run_marks_where_it_was_expected(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2, 0.3])
    comparison = compare_runs([tmp_path / "r"])
    (only,) = comparison.runs
    boxes = [record.boxes for record in only.rounds]
    assert only.predicted_boxes == (None, boxes[0] + 3.0, boxes[1] + 3.0)
    assert to_json(comparison)["runs"][0]["predicted_boxes"] == [None, boxes[0] + 3.0, boxes[1] + 3.0]
    (axes,) = draw(comparison, "ap").axes
    (marks,) = (line for line in axes.lines if line.get_label() == "boxes as predicted")
    assert marks.get_xdata().tolist() == [boxes[0] + 3.0, boxes[1] + 3.0]
    assert marks.get_ydata().tolist() == [0.2, 0.3]


def test_each_point_of_a_line_says_on_hover_what_it_shows():
    runs = [
        run(name, [10, 20], [0.1, top], seed=seed) for name, top in (("random", 0.2), ("a<b", 0.3)) for seed in (0, 1)
    ]
    page = svg(draw(compared(runs, "ap"), "ap"), "ap")
    titles = [title.text for title in ET.fromstring(page).iter("{http://www.w3.org/2000/svg}title")]
    assert titles == [
        "random, mean of 2 seeds: AP 0.100 at 10 boxes",
        "random, mean of 2 seeds: AP 0.200 at 20 boxes",
        "a<b, mean of 2 seeds: AP 0.100 at 10 boxes",
        "a<b, mean of 2 seeds: AP 0.300 at 20 boxes",
    ]
    uses = [mark for mark in ET.fromstring(page).iter("{http://www.w3.org/2000/svg}use") if len(mark)]
    heights = [float(mark.get("y")) for mark in uses]
    assert heights[3] < heights[1] < heights[0] == heights[2], "the title of a point is on its marker"


RISING = ([10, 20, 40, 80], [0.1, 0.2, 0.28, 0.33])


def bands(figure):
    return {band.get_label(): band.get_paths()[0].vertices for band in figure.axes[0].collections}


def test_the_curve_of_a_single_run_goes_on_as_forecast_and_that_of_a_study_does_not():
    alone = compared([run("entropy", *RISING)], "ap")
    figure = draw(alone, "ap")
    (line,) = (line for line in figure.axes[0].lines if line.get_label() == "forecast")
    assert line.get_xdata()[[0, -1]] == pytest.approx([80, 160])
    expected = forecast_of(alone.runs[0], "ap").curve
    assert line.get_ydata()[-1] == pytest.approx(expected.ap(160).median)
    (band,) = bands(figure).values()
    last = band[np.isclose(band[:, 0], 160), 1]
    assert (last.min(), last.max()) == pytest.approx((expected.ap(160).low, expected.ap(160).high))
    study = compared([run("entropy", *RISING), run("random", *RISING)], "ap")
    assert "forecast" not in [line.get_label() for line in draw(study, "ap").axes[0].lines]


def test_without_a_forecast_nothing_is_drawn():
    short = compared([run("entropy", [10, 20], [0.1, 0.2])], "ap")
    assert "forecast" not in [line.get_label() for line in draw(short, "ap").axes[0].lines]


def test_the_noise_between_replicates_is_drawn_around_random():
    runs = [run("random", *RISING), run("entropy", *RISING)]
    again = run("random", RISING[0], [value + 0.03 for value in RISING[1]], replicate=1)
    comparison = compared([*runs, again], "ap")
    assert comparison.replicate_noise == pytest.approx(0.03)
    band = bands(draw(comparison, "ap"))["random ± replicate noise"]
    for boxes, value in zip(*RISING, strict=True):
        ends = band[np.isclose(band[:, 0], boxes), 1]
        assert (ends.min(), ends.max()) == pytest.approx((value - 0.03, value + 0.03))
    assert not bands(draw(compared(runs, "ap"), "ap"))


@pytest.mark.parametrize("name", ["entropy", "entropy (aggregation=max, belief=score, score_threshold=0.25)"])
def test_names_of_any_length_stay_inside_the_drawing(name):
    runs = [run(f"{name}{k}", [10, 20], [0.1, 0.2]) for k in range(4)]
    figure = draw(compared(runs, "ap"), "ap")
    figure.canvas = FigureCanvasAgg(figure)
    figure.canvas.draw()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert len(legend.get_texts()) == 4
