"""The tables of classes have a row for each class, however many there are."""

import re

import pytest

from alloop.report.page import write_report
from alloop.report.panel import PageData
from alloop.report.panels import ap_by_class, bought_by_class
from alloop.results.compare import compare_runs
from tests.support.runs import write_run

NAMES = [f"class{k:02d}" for k in range(80)]


@pytest.fixture
def data(tmp_path):
    for strategy in ("random", "entropy"):
        for seed in range(2):
            settings = {"classes": NAMES, "pool": range(100, 20, -1), "name": "class07"}
            write_run(tmp_path / f"{strategy}_seed{seed}", strategy, seed, [0.1, 0.23456], **settings)
    comparison = compare_runs([tmp_path])
    return PageData(comparison, comparison)


def table_of(panel, data, key):
    (values,) = panel.PANEL.sections(data)
    return values[key]


def texts(row):
    return [cell if isinstance(cell, str) else cell.text for cell in row]


def test_every_class_has_a_row_in_both_tables_and_none_is_folded_away(data):
    for panel, key in ((ap_by_class, "table"), (bought_by_class, "ends")):
        table = table_of(panel, data, key)
        named = [row[0].removesuffix(" *") for row in table.rows]
        assert [name for name in named if name in NAMES] == NAMES, "the most frequent first"
        assert "random" in table.heads
        assert "entropy" in table.heads
        assert not any("others" in head for head in table.heads)


def test_ap_has_three_decimals_everywhere(data):
    rows = {row[0]: texts(row)[2:] for row in table_of(ap_by_class, data, "table").rows}
    assert rows["class07"] == ["0.235", "0.235"]
    cells = [cell for row in rows.values() for cell in row if cell != "\N{EN DASH}"]
    assert all(re.fullmatch(r"\d\.\d{3}", cell) for cell in cells)


def test_every_row_has_a_cell_for_every_heading(data):
    (bought,) = bought_by_class.PANEL.sections(data)
    for table in (table_of(ap_by_class, data, "table"), bought["ends"], *bought["rounds"].values()):
        assert {len(row) for row in table.rows} == {len(table.heads)}


def test_the_columns_add_up_and_are_those_of_the_balance(data):
    (bought,) = bought_by_class.PANEL.sections(data)
    for entry in data.balance.strategies:
        table = bought["rounds"][entry.strategy]
        assert list(table.heads) == ["class", "pool", "round 0", "round 1"]
        columns = list(zip(*(texts(row) for row in table.rows), strict=True))
        for number, counts in enumerate(entry.bought):
            assert columns[2 + number][:80] == tuple(f"{count:.0f}" for count in counts)
            assert columns[2 + number][80] == f"{counts.sum():.0f}"
        last = [row[-1] for row in map(texts, table.rows)]
        place = list(bought["ends"].heads).index(entry.strategy)
        assert [texts(row)[place] for row in bought["ends"].rows] == last


def test_rounds_are_folded_where_strategies_are_compared_and_open_in_a_single_run(data, tmp_path):
    study = write_report(data.comparison, tmp_path / "study.html", "study")[0].read_text()
    assert "<details><summary>entropy, up to each round</summary>" in study
    alone = compare_runs([tmp_path / "entropy_seed0"])
    page = write_report(alone, tmp_path / "run.html", "run")[0].read_text()
    assert "<details>" not in page
    assert "<th>round 1</th>" in page
