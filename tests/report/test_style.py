"""Colours stay with their strategies, and a chart says where its axis begins."""

import re

import numpy as np
import pytest

from alloop.report.curve import draw, draw_boxes_per_image, styles_of
from alloop.report.page import write_report
from alloop.report.style import COLOURS, GRAY, ZOOMED, Style, finish_y_axis, new_figure, strategy_styles, svg
from alloop.results.compare import compare_runs, compared
from tests.support.runs import run, write_run, write_study


def lines(figure):
    """The look of each line that stands for a strategy."""
    return {
        line.get_label(): (line.get_color(), line.get_marker(), line.get_linestyle())
        for line in figure.axes[0].get_lines()
    }


def test_a_strategy_looks_alike_in_a_study_and_alone():
    alone = compared([run("entropy", [10, 20], [0.1, 0.2])], "ap")
    study = compared([run("random", [10, 20], [0.1, 0.2]), run("entropy", [10, 20], [0.1, 0.3])], "ap")
    assert styles_of(alone)["entropy"] == styles_of(study)["entropy"] == Style(COLOURS[0], "s", "-")


def test_a_strategy_looks_alike_in_all_drawings_of_a_page():
    names = ["random", "a", "b", "c"]
    study = compared([run(name, [10, 20], [0.1, 0.2 + k / 10]) for k, name in enumerate(names)], "ap")
    styles = {name: (one.colour, one.marker, one.dash) for name, one in styles_of(study).items()}
    for figure in (draw(study, "ap"), draw(study, "ap50"), draw_boxes_per_image(study)):
        assert {name: lines(figure)[name] for name in names} == styles


def test_styles_do_not_depend_on_where_random_stands():
    assert strategy_styles(["a", "random", "b"]) == strategy_styles(["random", "a", "b"]) == strategy_styles(["a", "b"])
    assert strategy_styles([])["random"].colour == GRAY


def test_up_to_twenty_strategies_all_look_different():
    styles = strategy_styles(f"{k}" for k in range(20)).values()
    assert len(set(styles)) == 21


def test_the_summary_has_the_colours_of_the_drawings(tmp_path):
    page = write_report(compare_runs([write_study(tmp_path)]), tmp_path / "r.html", "study")[0].read_text()
    assert f'<i style="background: {COLOURS[0]}"></i><strong>entropy</strong>' in page
    assert f'<i style="background: {GRAY}"></i><strong>random</strong>' in page


def axes_of(values):
    axes = new_figure(4, 3).subplots()
    axes.plot(range(len(values)), values)
    finish_y_axis(axes)
    return axes


@pytest.mark.parametrize("values", [[0.0, 0.0], [0.0, 0.5], [0.05, 0.5], [0.0]])
def test_an_axis_that_is_near_0_begins_there(values):
    axes = axes_of(values)
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] >= max(values)
    assert axes.get_title(loc="left") == ""


@pytest.mark.parametrize("values", [[0.4, 0.45], [0.3, 0.4, 0.35], [2.0, 3.0]])
def test_an_axis_that_does_not_begin_at_0_says_so(values):
    axes = axes_of(values)
    assert 0 < axes.get_ylim()[0] <= min(values)
    assert axes.get_title(loc="left") == ZOOMED


def test_every_chart_either_begins_at_0_or_says_that_it_does_not():
    rng = np.random.default_rng(0)
    for _ in range(12):
        low = rng.uniform(0, 0.5)
        study = compared([run("random", [10, 20], [low, low + rng.uniform(0, 0.4)])], "ap")
        for figure in (draw(study, "ap"), draw_boxes_per_image(study)):
            axes = figure.axes[0]
            assert (axes.get_ylim()[0] == 0) != (axes.get_title(loc="left") == ZOOMED)


def test_the_sentence_stands_in_the_page(tmp_path):
    write_run(tmp_path / "random_seed0", "random", 0, [0.4, 0.45])
    page = write_report(compare_runs([tmp_path]), tmp_path / "r.html", "run")[0].read_text()
    assert ZOOMED in page


def test_a_drawing_names_no_address_but_those_of_its_format():
    text = svg(draw(compared([run("random", [10, 20], [0.1, 0.2])], "ap"), "ap"), "ap")
    assert set(re.findall(r"https?://[\w.]+", text)) == {"http://www.w3.org"}
