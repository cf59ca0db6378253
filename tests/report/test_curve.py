"""The curve as a drawing."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from alloop.report.curve import draw
from alloop.report.numbers import to_json
from alloop.results.compare import compare_runs, compared
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
