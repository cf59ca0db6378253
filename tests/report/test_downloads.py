"""Each table can be saved as CSV and each drawing as SVG, from the page alone."""

import csv
import io
import re
from html import unescape
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alloop.report.downloads import data_cell, standalone
from alloop.report.numbers import UNKNOWN
from alloop.report.page import write_report
from alloop.results.compare import compare_runs
from tests.support.runs import write_run

EVIL = '=1+2,"<b>&\n download="csv"'


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    for number, strategy in enumerate(("random", "entropy", EVIL)):
        for seed in range(3):
            aps = [0.1, 0.2 + seed / 50 + number / 100]
            write_run(out / "s" / f"run{number}_seed{seed}", strategy, seed, aps, name="@class")
    return write_report(compare_runs([out / "s"]), out / "r.html", "a study")[0].read_text()


def saved(page, kind):
    """The content of each file that the page offers, by name."""
    links = re.findall(rf'<a class="save" download="([^"]*\.{kind})"[^>]* href="data:[^",]*,([^"]*)">', page)
    assert len(dict(links)) == len(links), "no two files have one name"
    return {name: unquote(unescape(content)) for name, content in links}


def shown(page):
    """The cells of each table of the page as text, row by row."""
    for table in re.findall("(?s)<table.*?</table>", page):
        rows = re.findall("(?s)<tr.*?</tr>", table)
        yield [
            [unescape(re.sub("(?s)<.*?>", "", cell)) for cell in re.findall("(?s)<t[dh].*?</t[dh]>", row)]
            for row in rows
        ]


def test_each_drawing_is_a_file_of_its_own_in_black_on_white(page):
    drawings, files = re.findall("(?s)<figure>.*?</figure>", page), saved(page, "svg")
    assert len(drawings) == len(files) > 2
    for text in files.values():
        tree = ET.fromstring(text)
        assert tree.tag == "{http://www.w3.org/2000/svg}svg"
        assert tree[0].get("fill") == "white"
        assert "currentColor" not in text
        assert "var(" not in text
        assert not re.search(r"(href|src)=\"(?!#)", text), "it loads nothing"


def test_each_table_is_a_file_with_the_same_cells(page):
    tables, files = list(shown(page)), list(saved(page, "csv").values())
    assert len(tables) == len(files) > 5
    for rows, text in zip(tables, files, strict=True):
        read = list(csv.reader(io.StringIO(text)))
        assert read == [[data_cell(cell) for cell in row] for row in rows]


def test_files_are_named_after_their_sections(page):
    names = {*saved(page, "csv"), *saved(page, "svg")}
    assert {"every-round.csv", "settings.csv", "ap50-against-boxes-paid.svg"} <= names
    assert all(re.fullmatch(r"[a-z0-9-]+\.(csv|svg)", name) for name in names)


def test_a_name_is_never_a_formula(page):
    cells = [cell for text in saved(page, "csv").values() for row in csv.reader(io.StringIO(text)) for cell in row]
    assert any(cell.startswith("'=1+2") for cell in cells)
    assert not any(cell.startswith(("=", "@")) for cell in cells)
    assert any(cell.startswith("+0.") for cell in cells), "numbers keep their signs"


@pytest.mark.parametrize("number", ["-0.012", "+3", "-5%", "+0.010 to +0.020", "-1e-05", "-.5", "< 0.001", "12.5 s"])
def test_numbers_stay_as_they_are(number):
    assert data_cell(number) == number


@pytest.mark.parametrize("text", ["=A1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "-", "\t=1", "-1 to =2", "+1\n=2"])
def test_texts_that_look_like_formulas_get_a_quote(text):
    assert data_cell(text) == f"'{text}"


@given(st.text(max_size=8))
def test_other_texts_stay_as_they_are(text):
    cell = data_cell(text)
    assert cell == "" if text == UNKNOWN else cell in {text, f"'{text}"}
    assert cell.startswith("'") or not cell.startswith(("=", "@"))


def test_the_background_lies_behind_the_drawing():
    tree = ET.fromstring(standalone('<svg xmlns="http://www.w3.org/2000/svg"><path fill="currentColor"/></svg>'))
    assert [child.get("fill") for child in tree] == ["white", "black"]


def test_links_are_not_printed(page):
    paper = page[page.index("@media print {") : page.index("</style>")]
    assert ".save { display: none; }" in paper
