"""The curve as a drawing."""

from alloop.report.curve import draw
from alloop.report.numbers import to_json
from alloop.results.compare import compare_runs
from tests.support.runs import write_run


def test_the_curve_of_a_run_marks_where_it_was_expected(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2, 0.3])
    comparison = compare_runs([tmp_path / "r"])
    (run,) = comparison.runs
    boxes = [record.boxes for record in run.rounds]
    assert run.predicted_boxes == (None, boxes[0] + 3.0, boxes[1] + 3.0)
    assert to_json(comparison)["runs"][0]["predicted_boxes"] == [None, boxes[0] + 3.0, boxes[1] + 3.0]
    (axes,) = draw(comparison, "ap").axes
    (marks,) = (line for line in axes.lines if line.get_label() == "boxes as predicted")
    assert marks.get_xdata().tolist() == [boxes[0] + 3.0, boxes[1] + 3.0]
    assert marks.get_ydata().tolist() == [0.2, 0.3]
