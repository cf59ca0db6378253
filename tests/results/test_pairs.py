"""Which runs of a study are compared, and over which costs."""

from dataclasses import replace

import pytest

from alloop.results.compare import compared
from alloop.results.gaps import Range
from alloop.results.pairs import CurvesBySeed
from tests.support.runs import run


def test_all_strategies_of_a_seed_are_compared_on_one_range():
    """So that their differences can be put in order: on ranges of their own, the longer run has the longer average."""
    runs = [
        run("random", [10, 20, 30, 40], [0.1, 0.2, 0.3, 0.4]),
        run("short", [10, 20, 30], [0.1, 0.3, 0.4]),
        run("long", [10, 20, 30, 40], [0.1, 0.3, 0.4, 0.9]),
    ]
    comparison = compared(runs, "ap")
    assert comparison.ranges == {0: Range(20, 30)}
    by_name = {versus.strategy: versus for versus in comparison.versus}
    assert by_name["long"].difference == pytest.approx(by_name["short"].difference)
    assert by_name["long"].end_difference == pytest.approx(0.1)
    assert comparison.areas["long"] == pytest.approx(comparison.areas["short"], abs=0.01)


def test_each_seed_has_a_range_of_its_own():
    runs = [run("random", [10, 20], [0.1, 0.2], 0), run("a", [10, 25], [0.1, 0.2], 0)]
    runs += [run("random", [10, 40], [0.1, 0.2], 1), run("a", [10, 30], [0.1, 0.2], 1)]
    assert compared(runs, "ap").ranges == {0: Range(20, 20), 1: Range(30, 30)}


def test_a_run_that_has_not_bought_yet_says_nothing_and_shortens_no_range():
    finished = [run("random", [10, 20, 30], [0.1, 0.2, 0.3], 0), run("a", [10, 20, 30], [0.1, 0.3, 0.4], 0)]
    waiting = [run("b", [10], [0.1], 0), run("a", [10], [0.1], 1), run("random", [10], [0.1], 1)]
    curves = CurvesBySeed.of_runs([*finished, *waiting], "ap")
    assert set(curves.curves[0]) == {"random", "a"}
    assert curves.ranges == {0: Range(20, 30), 1: Range(10, 10)}
    assert curves.pairs("b", "random").gaps == ()


def test_a_run_on_all_labels_is_no_strategy():
    full = replace(run("full_label", [500], [0.9]), full_label=True)
    assert CurvesBySeed.of_runs([full, run("random", [10, 20], [0.1, 0.2])], "ap").names == ["random"]


def test_areas_are_those_of_seeds_that_all_strategies_have():
    runs = [
        run("random", [10, 20], [0.1, 0.2], 0),
        run("a", [10, 20], [0.1, 0.3], 0),
        run("random", [10, 20], [0.1, 0.9], 1),
    ]
    assert CurvesBySeed.of_runs(runs, "ap").areas() == pytest.approx({"random": 0.2, "a": 0.3})
