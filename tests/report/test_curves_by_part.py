"""Small charts of AP by size and by class."""

import re
from dataclasses import replace
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from alloop.report.curves_by_part import MOST_CLASSES, class_charts, size_charts
from alloop.report.page import write_report
from alloop.report.panel import PageData
from alloop.report.panels import curves_by_part
from alloop.report.small_charts import HEIGHT, TOP, Scale, SmallChart, small_charts
from alloop.report.style import strategy_styles
from alloop.results.class_balance import ClassBalance, StrategyClasses
from alloop.results.compare import compare_runs, compared
from tests.support.runs import run, write_run

NAMES = tuple(f"class{k:02d}" for k in range(80))
STYLES = strategy_styles(["random", "entropy"])


def of_classes(strategy, seed, aps, names=NAMES):
    """A run in which class k gains k percent with each round."""
    whole = run(strategy, [10 * (k + 1) for k in range(len(aps))], aps, seed, classes=names)
    rounds = [
        replace(record, per_class={name: ap + number * k / 100 for number, name in enumerate(names)})
        for k, (record, ap) in enumerate(zip(whole.rounds, aps, strict=True))
    ]
    return replace(whole, rounds=tuple(rounds))


def balance_of(names=NAMES):
    entry = StrategyClasses("random", np.ones((2, len(names))), dict.fromkeys(names))
    return ClassBalance(names, np.arange(len(names), 0.0, -1), (entry,), 10.0)


def test_of_many_classes_those_that_change_most_have_charts():
    comparison = compared(
        [of_classes(name, seed, [0.1, 0.2]) for name in ("random", "entropy") for seed in (0, 1)], "ap"
    )
    charts = class_charts(comparison, balance_of())
    assert [chart.title for chart in charts] == list(NAMES[-MOST_CLASSES:]), "in the order of their numbers of boxes"


def test_the_page_says_how_many_classes_have_no_chart():
    comparison = compared([of_classes("random", 0, [0.1, 0.2])], "ap")
    data = PageData(comparison, comparison)
    data.__dict__["balance"] = balance_of()
    (values,) = curves_by_part.PANEL.sections(data)
    assert (values["what"], values["shown"], values["others"]) == ("class", MOST_CLASSES, 80 - MOST_CLASSES)


def test_a_line_is_the_mean_over_the_seeds():
    comparison = compared([of_classes("random", seed, [0.1, 0.2 + 0.1 * seed]) for seed in (0, 1)], "ap")
    first = class_charts(comparison, balance_of())[0]
    number = int(first.title.removeprefix("class"))
    assert first.lines["random"] == [pytest.approx((10, 0.1)), pytest.approx((20, 0.25 + number / 100))]


def test_sizes_without_objects_and_single_rounds_have_no_chart(tmp_path):
    for seed in range(2):
        write_run(tmp_path / f"random_seed{seed}", "random", seed, [0.1, 0.2], metrics=("ap_small", "ap_large"))
    assert [chart.title.split()[0] for chart in size_charts(compare_runs([tmp_path]))] == ["small", "large"]
    assert size_charts(compared([run("random", [10], [0.1])], "ap")) == []


def test_the_scale_begins_at_0_and_holds_every_point():
    charts = [SmallChart("a", {"random": [(5, 0.31), (9, 0.4)]}), SmallChart("b", {"random": [(3, 0.0), (4, 0.72)]})]
    scale = Scale.of(charts)
    assert (scale.low, scale.high) == (3, 9)
    assert scale.top == pytest.approx(0.75)
    assert scale.at(3, 0.75)[1] == pytest.approx(TOP)
    for chart in charts:
        for points in chart.lines.values():
            assert all(TOP - 1e-9 <= scale.at(*point)[1] <= HEIGHT for point in points)


@pytest.mark.parametrize("points", [[(1.0, 0.0), (2.0, 0.0)], [(2.0, 0.5), (2.0, 0.5)], [(0.0, 1e-7), (1e6, 1.0)]])
def test_odd_figures_are_drawn(points):
    assert "nan" not in small_charts([SmallChart("a", {"random": points})], STYLES)


def test_every_line_has_its_figures_at_the_pointer_and_the_style_of_its_strategy():
    charts = [SmallChart("cat", {"random": [(10, 0.1), (20, 0.2)], "entropy": [(10, 0.1), (25, 0.3)]})]
    tree = ET.fromstring(str(small_charts(charts, STYLES)))
    titles = {
        title.text: parent.get("stroke") for parent in tree.iter() for title in parent if title.tag.endswith("title")
    }
    assert titles["entropy: 0.100 at 10, 0.300 at 25"] == STYLES["entropy"].colour
    assert titles["random: 0.100 at 10, 0.200 at 20"] == STYLES["random"].colour
    assert {"random", "entropy"} <= titles.keys(), "the legend"


def test_names_stay_text():
    evil = '"/><script>alert(1)</script>'
    drawn = small_charts([SmallChart(evil, {evil: [(1, 0.1), (2, 0.2)]})], strategy_styles([evil]))
    assert "<script" not in drawn
    assert ET.fromstring(str(drawn)) is not None


def test_the_page_of_80_classes_stays_small(tmp_path):
    for strategy in ("random", "entropy"):
        for seed in range(2):
            settings = {"classes": NAMES, "pool": range(100, 20, -1), "name": "class07"}
            write_run(tmp_path / f"{strategy}_seed{seed}", strategy, seed, [0.1, 0.2], **settings)
    page = write_report(compare_runs([tmp_path]), tmp_path / "r.html", "a study")[0].read_text()
    assert "For 79 more, AP is unknown." in re.sub(r"\s+", " ", page)
    assert len(page) < 500_000
