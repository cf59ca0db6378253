"""Panels and their tables as HTML."""

import jinja2
from markupsafe import Markup

from alloop.report.numbers import UNKNOWN
from alloop.report.page import PANELS
from alloop.report.panel import Cell, HtmlTable, PageData, Panel, Section, anchored, number
from alloop.results.compare import compared
from tests.support.runs import run

ENVIRONMENT = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)


def page_data():
    comparison = compared([run("random", [10, 20], [0.1, 0.2])], "ap")
    return PageData(comparison, comparison)


def test_every_text_of_a_panel_is_escaped():
    table = HtmlTable(["<a>"], [["<b>"], [Cell("<c>", css="better", shade=1.0)]], tooltips={"<a>": '"<d>'})
    panel = Panel("{{ name }} in {{ unit }}", lambda _data: [{"name": "<e>", "table": table}], "{{ table }}")
    (section,) = panel.render(page_data(), ENVIRONMENT)
    html = section.body
    assert section.title == "&lt;e&gt; in boxes"
    assert '<th title="&#34;&lt;d&gt;">&lt;a&gt;</th>' in html
    assert "<td>&lt;b&gt;</td>" in html
    assert '<td class="better" style="background: rgba(var(--heat), 0.80)">&lt;c&gt;</td>' in html


def test_a_panel_has_a_section_for_each_set_of_values_and_none_without():
    panel = Panel("{{ k }}", lambda _data: [{"k": 1}, {"k": 2}], "text")
    assert [section.title for section in panel.render(page_data(), ENVIRONMENT)] == ["1", "2"]
    assert Panel("none", lambda _data: [], "text").render(page_data(), ENVIRONMENT) == []


def test_sections_have_names_of_letters_and_digits_alone_and_each_its_own():
    titles = ["AP50 against boxes", "AP50, against boxes", "&lt;a&gt; &#34; onclick", "…", "", "section-2"]
    names = list(anchored(Section(Markup(title), Markup()) for title in titles))
    assert names == ["ap50-against-boxes", "ap50-against-boxes-2", "a-onclick", "section", "section-2", "section-2-2"]


def test_headings_of_many_narrow_columns_are_turned_and_still_escaped():
    html = HtmlTable(["class", "<a>"], [["b", "1"]], striped=False, upright=True).__html__()
    assert '<table class="upright">' in html
    assert "<th><span>&lt;a&gt;</span></th>" in html


def test_a_row_of_one_string_is_a_heading_over_all_columns():
    html = HtmlTable(["strategy", "AP"], [["random"], ["a", "0.1"]]).__html__()
    assert '<tr class="group"><td colspan="2">random</td></tr>' in html
    assert "<tr><td>a</td><td>0.1</td></tr>" in html


def test_unknown_numbers_are_a_dash():
    assert (number(None), number(0.12345), number(2.5, ".1f")) == (UNKNOWN, "0.123", "2.5")


def test_the_first_run_of_each_strategy_stands_for_it():
    runs = [run("random", [10], [0.1], seed) for seed in (0, 1)] + [run("a", [10], [0.1], 1)]
    comparison = compared([*runs, run("unfinished", [], [])], "ap")
    data = PageData(comparison, comparison)
    assert [first.name for first in data.first_runs] == ["random_seed0", "a_seed1"]


def test_the_titles_of_the_panels_differ():
    assert len({panel.title for panel in PANELS}) == len(PANELS)
